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
from pathlib import Path

from mmscope.cli.arguments import positive, threshold_or_file
from mmscope.cli.gated_models import load_model
from mmscope.cli.picture_arguments import (
    choose_images,
    picture_parser,
    write_pictures,
)
from mmscope.errors import user_errors
from mmscope.evaluation.loading import open_config
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
    parser.add_argument(
        '--exit-threshold',
        type=threshold_or_file,
        metavar='ETA',
        help='a number >= 0 (0: every image exits, > 1: none does), or the '
        'file of sweep_threshold.py --save-threshold (default: the '
        "config's)",
    )
    parser.add_argument(
        '--importances',
        nargs='+',
        default=[],
        metavar='METRIC',
        help='what else to show of importance, such as detail max_norm; the '
        "config's score_metric decides",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    # Wrong names in the config surface while model and data are built.
    with user_errors(OSError, ValueError, KeyError, TypeError):
        cfg = open_config(args.config, args.cfg_options)
        model = load_model(cfg, args)
        choose = None
        if args.by_confidence:
            choose = partial(
                spread_by_confidence, model, number=args.by_confidence
            )
        dataset, indices = choose_images(cfg, args, choose)
    write_pictures(
        args,
        Path(cfg.work_dir) / 'scope.png',
        draw_scopes,
        model,
        dataset,
        indices,
        others=args.importances,
    )
