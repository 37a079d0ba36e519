"""The command line of sweep_threshold.py."""

from __future__ import annotations

import argparse

from mmengine.config import DictAction

from mmscope.analysis.costs import DIRECTIONS
from mmscope.evaluation.curves import NUM_DRAWS
from mmscope.evaluation.loading import SPLITS


def parse_sweep_args(
    description: str, argv: list[str] | None = None
) -> argparse.Namespace:
    """Read the command line.

    Args:
        description (str): What the tool does.
        argv (list[str] | None): None for the process's own. Defaults to
            None.

    Returns:
        argparse.Namespace: Checked arguments; ``choose_on`` is 'val' where
        it is not given.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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


def _add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is swept."""
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        default='test',
        help='data to evaluate: test_dataloader (default) or val_dataloader',
    )
    parser.add_argument(
        '--num-quantiles',
        type=int,
        default=9,
        metavar='N',
        help='thresholds between all exit and nobody (default: 9)',
    )
    parser.add_argument(
        '--thresholds',
        type=float,
        nargs='+',
        default=[],
        metavar='ETA',
        help='thresholds to evaluate beside the quantiles, such as 0.5 0.55',
    )
    parser.add_argument(
        '--vary',
        nargs='+',
        default=[],
        metavar='KEY=VALUE,VALUE',
        help='settings of the backbone to evaluate the same weights with',
    )
    parser.add_argument(
        '--convention',
        choices=sorted(DIRECTIONS, reverse=True),
        default='paper',
        help='scan directions counted: one (paper) or both (exact)',
    )
    parser.add_argument(
        '--num-draws',
        type=int,
        default=NUM_DRAWS,
        metavar='N',
        help='random exits to compare each threshold with (default: '
        f'{NUM_DRAWS}); a draw takes 20 ms on COCO val, else next to nothing',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the random exits'
    )
    parser.add_argument(
        '--batch-size', type=int, help="images a batch (default: config's)"
    )
    parser.add_argument('--device', help='such as cpu or cuda:0')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='config overrides'
    )


def _add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a threshold."""
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        '--target-flops',
        type=float,
        metavar='G',
        help='choose the most accurate threshold of at most that many mean '
        'GMACs an image',
    )
    target.add_argument(
        '--max-drop',
        type=float,
        metavar='POINTS',
        help='choose the cheapest threshold whose score is at most that far '
        'below that of nobody exiting',
    )
    parser.add_argument(
        '--choose-on',
        choices=SPLITS,
        help='data to choose the threshold, and to fit the temperature, on '
        '(default: val)',
    )
    parser.add_argument(
        '--calibrate',
        action='store_true',
        help='fit a temperature to the coarse predictions before',
    )
    parser.add_argument(
        '--save-threshold',
        metavar='FILE',
        help='write the chosen threshold as JSON',
    )


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is timed and where things are written."""
    parser.add_argument(
        '--name', help='name of the model in picture and table'
    )
    parser.add_argument('--out-dir', help='folder for JSON, CSV and picture')
    parser.add_argument(
        '--baseline-json',
        nargs='+',
        default=[],
        metavar='FILE',
        help='sweeps to draw beside this one',
    )
    parser.add_argument(
        '--json',
        nargs='?',
        const='-',
        metavar='FILE',
        help='write JSON to FILE, or to stdout instead of the table',
    )
    parser.add_argument(
        '--no-images',
        action='store_true',
        help='leave the results of single images out of the JSON',
    )
    parser.add_argument(
        '--speed-images',
        type=int,
        default=16,
        metavar='N',
        help='images timed in real gated runs; 0 times nothing (default: 16)',
    )
    parser.add_argument(
        '--repeats',
        type=int,
        default=3,
        help='timed repeats, of which the median counts (default: 3)',
    )
