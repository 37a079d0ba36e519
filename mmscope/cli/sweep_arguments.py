"""The command line of sweep_threshold.py."""

from __future__ import annotations

import argparse

from mmscope.cli.arguments import (
    Parser,
    add_cfg_options,
    add_convention,
    add_device,
    add_model,
    add_split,
    amount,
    positive,
    tool_parser,
    whole,
)
from mmscope.evaluation.curves import NUM_DRAWS
from mmscope.evaluation.loading import SPLITS


def parse_sweep_args(
    description: str, argv: list[str] | None = None
) -> argparse.Namespace:
    """Read the command line of a tool that does what is described.

    ``chooses`` says whether there is a target; ``choose_on`` is 'val' where it
    is not given.
    """
    parser = tool_parser(description)
    _add_sweep_arguments(parser)
    _add_choice_arguments(parser)
    _add_output_arguments(parser)
    args = parser.parse_args(argv)
    args.chooses = args.target_flops is not None or args.max_drop is not None
    for_choice = args.save_threshold or (args.choose_on and not args.calibrate)
    if not args.chooses and for_choice:
        parser.error(
            '--choose-on and --save-threshold need a target: '
            '--target-flops G or --max-drop POINTS'
        )
    args.choose_on = args.choose_on or 'val'
    return args


def _add_sweep_arguments(parser: Parser) -> None:
    """Add what is swept."""
    add_model(parser)
    add_split(parser)
    add_convention(parser)
    add_device(parser)
    add_cfg_options(parser)
    add, many = parser.add_argument, {'nargs': '+', 'default': []}
    text = 'thresholds between all exit and nobody (default: 9)'
    add('--num-quantiles', type=whole, default=9, metavar='N', help=text)
    text = 'thresholds to evaluate beside the quantiles, such as 0.5 0.55'
    add('--thresholds', type=float, metavar='ETA', help=text, **many)
    text = 'settings of the backbone to evaluate the same weights with'
    add('--vary', metavar='KEY=VALUE,VALUE', help=text, **many)
    text = (
        'random exits to compare each threshold with (default: '
        f'{NUM_DRAWS}); a draw takes 0.1 s on COCO val, else next to nothing'
    )
    add(
        '--num-draws', type=positive, default=NUM_DRAWS, metavar='N', help=text
    )
    text = 'seed of the random exits, and of importances by chance'
    add('--seed', type=whole, default=0, help=text)
    text = "images a batch (default: config's)"
    add('--batch-size', type=positive, help=text)


def _add_choice_arguments(parser: Parser) -> None:
    """Add the options that choose a threshold."""
    target = parser.add_mutually_exclusive_group()
    text = (
        'choose the most accurate threshold of at most that many mean GMACs '
        'an image'
    )
    target.add_argument('--target-flops', type=amount, metavar='G', help=text)
    text = (
        'choose the cheapest threshold whose score is at most that far below '
        'that of nobody exiting'
    )
    target.add_argument('--max-drop', type=amount, metavar='POINTS', help=text)
    text = (
        'data to choose the threshold, and to fit the temperature, on '
        '(default: val)'
    )
    parser.add_argument('--choose-on', choices=SPLITS, help=text)
    text = 'fit a temperature to the coarse predictions before'
    parser.add_argument('--calibrate', action='store_true', help=text)
    text = 'write the chosen threshold as JSON'
    parser.add_argument('--save-threshold', metavar='FILE', help=text)


def _add_output_arguments(parser: Parser) -> None:
    """Add what is timed and where things are written."""
    add = parser.add_argument
    text = 'images timed in real gated runs; 0 times nothing (default: 16)'
    add('--speed-images', type=whole, default=16, metavar='N', help=text)
    text = 'timed repeats, of which the median counts (default: 3)'
    add('--repeats', type=positive, default=3, help=text)
    add('--name', help='name of the model in picture and table')
    add('--out-dir', help='folder for JSON, CSV and picture')
    text = 'write JSON to FILE, or to stdout instead of the table'
    add('--json', nargs='?', const='-', metavar='FILE', help=text)
    text = 'leave the results of single images out of the JSON'
    add('--no-images', action='store_true', help=text)
