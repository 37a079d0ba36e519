"""What the tools that draw a model's images have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import nn

from mmscope.cli.arguments import (
    Parser,
    add_cfg_options,
    add_device,
    add_model,
    add_split,
    tool_parser,
)
from mmscope.cli.gated_models import load_model
from mmscope.errors import user_errors
from mmscope.evaluation.loading import build_dataloader, open_config
from mmscope.visualization.figure_layout import MOST_BOXES, SCORE_THR
from mmscope.visualization.image_files import ImageFiles, class_meta
from mmscope.visualization.rows import PANEL_WIDTH

DEFAULT_IMAGES = 3


def picture_parser(description: str, name: str) -> tuple[Parser, Any]:
    """Make a command line: which images of which model are drawn where.

    Beside it comes the group of options that choose the images.
    """
    parser = tool_parser(description)
    add_model(parser)
    add_split(parser)
    source = _add_source(parser)
    _add_target(parser, name)
    add_device(parser)
    add_cfg_options(parser)
    # Of tools that draw models without exits.
    parser.set_defaults(exit_threshold=None)
    return parser, source


def _add_source(parser: Parser) -> Any:
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
        '--images', nargs='+', metavar='FILE', help='image files instead'
    )
    return source


def _add_target(parser: Parser, name: str) -> None:
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        '--out',
        metavar='FILE.png',
        help=f'one picture of all (default: work_dirs/CONFIG/{name}.png)',
    )
    target.add_argument(
        '--out-dir', metavar='DIR', help='a picture an image, and one of all'
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
        '--panel-width',
        type=float,
        default=PANEL_WIDTH,
        metavar='INCHES',
        help=f'of one panel, at 110 pixels an inch (default: {PANEL_WIDTH})',
    )


def choose_images(
    cfg: Config,
    args: argparse.Namespace,
    choose: Callable[[Any], list[int]] | None = None,
) -> tuple[Any, list[int]]:
    """Find the data set to show, and the indices of its images.

    ``choose`` finds them where neither files nor indices are given; None
    spreads three.
    """
    if args.images:
        meta = class_meta(cfg, args.checkpoint)
        return ImageFiles(args.images, cfg, meta), [*range(len(args.images))]
    dataset = build_dataloader(cfg, args.split).dataset
    return dataset, args.indices or (choose or _spread)(dataset)


def _spread(dataset: Any) -> list[int]:
    number = min(DEFAULT_IMAGES, len(dataset))
    spread = np.linspace(0, len(dataset) - 1, number).round()
    return [int(index) for index in spread]


def show(
    args: argparse.Namespace,
    name: str,
    draw: Callable[..., list[Path]],
    choose: Callable[[nn.Module, Any], list[int]] | None = None,
    **drawing: Any,
) -> None:
    """Load, draw, and print the names of the files.

    ``choose`` makes indices of model and data set, see :func:`choose_images`.
    """
    # Wrong names in the config surface while model and data are built.
    with user_errors(OSError, ValueError, KeyError, TypeError):
        cfg = open_config(args.config, args.cfg_options)
        model = load_model(cfg, args)
        chosen = choose and partial(choose, model)
        dataset, indices = choose_images(cfg, args, chosen)
    file = Path(args.out or f'{cfg.work_dir}/{name}')
    if not file.suffix:
        file = file.with_suffix('.png')
    drawing.update(score_thr=args.score_thr, panel_width=args.panel_width)
    with user_errors(OSError):
        if args.out_dir:
            # A folder, even if its name looks like a file's.
            Path(args.out_dir).mkdir(parents=True, exist_ok=True)
        files = draw(model, dataset, args.out_dir or file, indices, **drawing)
    for file in files:
        print(file)
