"""Write a small synthetic data set in the exact layout of ADE20K.

    python tools/dataset_converters/make_demo_scenes.py data/ade

writes ``data/ade/ADEChallengeData2016`` with 200 training and 60 validation
scenes in a few seconds; the ADE20K configs then run on it unchanged. The
scenes are rendered, so scores on them say nothing about real photographs.
"""

from __future__ import annotations

import argparse
import sys

from mmscope.cli.arguments import tool_parser
from mmscope.datasets.demo_writer import FOLDER, write_scenes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('out', help=f'folder in which {FOLDER} is written')
    parser.add_argument('--train', type=int, default=200, help='images')
    parser.add_argument('--val', type=int, default=60, help='images')
    parser.add_argument('--height', type=int, default=192, help='pixels')
    parser.add_argument('--width', type=int, default=256, help='pixels')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--cluttered',
        type=float,
        default=0.5,
        help='share of scenes with many small things, in [0, 1]',
    )
    args = parser.parse_args(argv)
    for name in ('train', 'val', 'height', 'width'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1')
    if args.seed < 0:
        parser.error('--seed must be at least 0')
    if not 0 <= args.cluttered <= 1:
        parser.error('--cluttered must lie in [0, 1]')
    return args


def main(argv: list[str] | None = None) -> None:
    """Write the data set and say where it is."""
    args = parse_args(argv)
    try:
        root = write_scenes(**vars(args))
    except OSError as error:
        sys.exit(f'error: {error}')
    print(
        f'{args.train} training and {args.val} validation scenes in {root}\n'
        f'Use it: MMSCOPE_ADE20K={root}'
    )
