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
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, DictAction
from torch import nn

from mmscope.apis import set_exit_threshold, user_errors
from mmscope.apis.arguments import positive
from mmscope.apis.config import threshold_or_file
from mmscope.apis.exit_gate import GATE_HOOKS
from mmscope.evaluation.loading import (
    SPLITS,
    build_dataloader,
    build_model,
    open_config,
)
from mmscope.models import attach_gate, is_two_stage
from mmscope.visualization import (
    ImageFiles,
    class_meta,
    draw_scope_overview,
    draw_scope_pictures,
    spread_by_confidence,
)
from mmscope.visualization.scene import MOST_BOXES, SCORE_THR
from mmscope.visualization.scope import PANEL_WIDTH

DEFAULT_IMAGES = 3


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        default='test',
        help='data to take images from: test_dataloader (default) or '
        'val_dataloader',
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        '--indices',
        type=int,
        nargs='+',
        metavar='N',
        help=f'images of the split, from 0 (default: {DEFAULT_IMAGES} spread '
        'over it)',
    )
    source.add_argument(
        '--by-confidence',
        type=positive,
        metavar='N',
        help='N images of the split, from the one that the model is most '
        'sure of to the one of which it is least; looks at all of them first',
    )
    source.add_argument(
        '--images', nargs='+', metavar='FILE', help='image files instead'
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
        '--score-thr',
        type=float,
        default=SCORE_THR,
        metavar='SCORE',
        help=f'least score of a box; the best {MOST_BOXES} are drawn '
        f'(default: {SCORE_THR})',
    )
    parser.add_argument(
        '--importances',
        nargs='+',
        default=[],
        metavar='METRIC',
        help='what else to show of importance, such as detail max_norm; the '
        "config's score_metric decides",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        '--out',
        metavar='FILE.png',
        help='one picture of all (default: work_dirs/CONFIG/scope.png)',
    )
    target.add_argument(
        '--out-dir', metavar='DIR', help='a picture an image, and one of all'
    )
    parser.add_argument(
        '--panel-width',
        type=float,
        default=PANEL_WIDTH,
        metavar='INCHES',
        help=f'of one panel, at 110 pixels an inch (default: {PANEL_WIDTH})',
    )
    parser.add_argument('--device', help='such as cpu or cuda:0')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='config overrides'
    )
    return parser.parse_args(argv)


def load_model(cfg: Config, args: argparse.Namespace) -> nn.Module:
    """Build the model that exits as the command line or the config says.

    Args:
        cfg (Config): Of ``open_config``.
        args (argparse.Namespace): Command line.

    Returns:
        nn.Module: In evaluation mode.
    """
    remarks = set_exit_threshold(cfg, args.exit_threshold)
    for remark in remarks:
        print(remark)
    model = build_model(cfg, args.checkpoint, args.device)
    for hook in cfg.get('custom_hooks') or []:
        if hook.get('type') in GATE_HOOKS and is_two_stage(model):
            attach_gate(model, hook.get('exit_threshold'))
    return model


def choose_images(
    cfg: Config, args: argparse.Namespace, model: nn.Module
) -> tuple[Any, list[int]]:
    """Find the images to show.

    Args:
        cfg (Config): Of ``open_config``.
        args (argparse.Namespace): Command line.
        model (nn.Module): Of :func:`load_model`.

    Returns:
        tuple[Any, list[int]]: Data set and indices.
    """
    if args.images:
        meta = class_meta(cfg, args.checkpoint)
        return ImageFiles(args.images, cfg, meta), [*range(len(args.images))]
    dataset = build_dataloader(cfg, args.split).dataset
    if args.indices:
        return dataset, args.indices
    if args.by_confidence:
        return dataset, spread_by_confidence(
            model, dataset, args.by_confidence
        )
    number = min(DEFAULT_IMAGES, len(dataset))
    spread = np.linspace(0, len(dataset) - 1, number).round()
    return dataset, [int(index) for index in spread]


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    # Wrong names in the config surface while model and data are built.
    with user_errors(OSError, ValueError, KeyError, TypeError):
        cfg = open_config(args.config, args.cfg_options)
        model = load_model(cfg, args)
        dataset, indices = choose_images(cfg, args, model)
    drawing = {
        'score_thr': args.score_thr,
        'panel_width': args.panel_width,
        'others': args.importances,
    }
    with user_errors(OSError):
        if args.out_dir:
            files = draw_scope_pictures(
                model, dataset, args.out_dir, indices, **drawing
            )
        else:
            out = args.out or str(Path(cfg.work_dir) / 'scope.png')
            files = [
                draw_scope_overview(model, dataset, out, indices, **drawing)
            ]
    for file in files:
        print(file)


if __name__ == '__main__':
    main()
