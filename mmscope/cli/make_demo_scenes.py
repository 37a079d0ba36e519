"""Write a small synthetic data set in the exact layout of ADE20K.

    python tools/dataset_converters/make_demo_scenes.py data/ade

writes ``data/ade/ADEChallengeData2016`` with 200 training and 60 validation
scenes in a few seconds; the ADE20K configs then run on it unchanged. The
scenes are rendered, so scores on them say nothing about real photographs.
"""

from __future__ import annotations

import argparse
import sys

from mmscope.cli.arguments import fraction, positive, tool_parser, whole
from mmscope.datasets.demo_writer import FOLDER, write_scenes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('out', help=f'folder in which {FOLDER} is written')
    add, count = parser.add_argument, {'type': positive}
    add('--train', default=200, help='images', **count)
    add('--val', default=60, help='images', **count)
    add('--height', default=192, help='pixels', **count)
    add('--width', default=256, help='pixels', **count)
    add('--seed', type=whole, default=0)
    text = 'share of scenes with many small things, in [0, 1]'
    add('--cluttered', type=fraction, default=0.5, help=text)
    return parser.parse_args(argv)


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
