"""Show where a MambaScope model looks twice, and what it finds.

    python tools/analysis_tools/show_scope.py CONFIG CKPT
        [--split test|val] [--indices 0 5 9 | --by-confidence 3]
        [--exit-threshold ETA|FILE.json] [--out FILE.png | --out-dir DIR]
    python tools/analysis_tools/show_scope.py CONFIG CKPT --images a.jpg b.jpg

For models of all three hosts. One row an image: token importance, the regions
that were refined, whether the image left early and how sure the model was;
beside it label map, boxes or class, and the ground truth where it is known.
"""

from __future__ import annotations

import argparse
from functools import partial

from mmscope.cli.arguments import add_exit_threshold, positive
from mmscope.cli.picture_arguments import picture_parser, show
from mmscope.runtime import ending_cleanly
from mmscope.visualization import draw_scopes, spread_by_confidence


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser, source = picture_parser(__doc__, 'scope')
    source.add_argument(
        '--by-confidence',
        type=positive,
        metavar='N',
        help='N images of the split, from the one that the model is most '
        'sure of to the one of which it is least; looks at all of them first',
    )
    add_exit_threshold(parser)
    parser.add_argument(
        '--importances',
        nargs='+',
        default=[],
        metavar='METRIC',
        help='what else to show of importance, such as detail max_norm; the '
        "config's score_metric decides",
    )
    return parser.parse_args(argv)


@ending_cleanly()
def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    choose = None
    if args.by_confidence:
        choose = partial(spread_by_confidence, number=args.by_confidence)
    show(args, 'scope', draw_scopes, choose, others=args.importances)
