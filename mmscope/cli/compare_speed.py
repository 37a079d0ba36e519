"""Time ViM of two checkouts in turns: what a change was worth.

    python tools/analysis_tools/compare_speed.py BEFORE [AFTER]
        [--arch small] [--batch-sizes 1 8] [--threads N] [--repeats 20]
        [--step TEXT --predicted RATIO --json docs/results/speed_steps.json]

Both folders hold a package whose compiled operators are built; AFTER is this
checkout unless another one is given. Each runs in a process of its own, one
forward after the other in turns, so that a drifting machine favours neither.
Write the prediction down before: with --json, step, prediction and ratios are
added to that file, from which speed_page.py makes its table.
"""

from __future__ import annotations

import argparse

from mmscope.benchmark.checkouts import Step, add_step, compare_checkouts
from mmscope.benchmark.ratios import quartiles, rounded
from mmscope.benchmark.setting import ROOT, commit, describe_setting
from mmscope.cli.arguments import positive, tool_parser
from mmscope.errors import user_errors
from mmscope.models.backbones.arguments import ARCHS


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('before', help='checkout without the change')
    parser.add_argument(
        'after', nargs='?', default=ROOT, help='with it (default: this one)'
    )
    parser.add_argument(
        '--arch', nargs='+', choices=list(ARCHS), default=['small']
    )
    parser.add_argument(
        '--batch-sizes', nargs='+', type=positive, default=[1, 8]
    )
    parser.add_argument('--threads', type=positive)
    parser.add_argument('--repeats', type=positive, default=20)
    parser.add_argument('--step', help='what was changed')
    parser.add_argument(
        '--predicted', type=float, help='expected ratio of the times'
    )
    parser.add_argument('--json', metavar='FILE', help='add the step to FILE')
    args = parser.parse_args(arguments)
    if args.json and None in (args.step, args.predicted):
        parser.error('--json needs the --step and the ratio --predicted')
    return args


def main(arguments: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    with user_errors():
        setting = describe_setting()
        ratios = compare_checkouts(
            args.before,
            args.after,
            args.arch,
            args.batch_sizes,
            args.repeats,
            args.threads,
        )
    for name, ratio in ratios.items():
        print(f'{name}: {quartiles(ratio, 3)} of the time')
    if args.json:
        kept = {name: rounded(ratio) for name, ratio in ratios.items()}
        commits = commit(args.before), commit(args.after)
        step = Step(args.step, args.predicted, *commits, kept, setting)
        add_step(args.json, step)
