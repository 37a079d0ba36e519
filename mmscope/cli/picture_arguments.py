"""What the tools that draw a model's images have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, DictAction
from torch import nn

from mmscope.cli.arguments import device
from mmscope.errors import user_errors
from mmscope.evaluation.loading import SPLITS, build_dataloader
from mmscope.visualization.figure_layout import MOST_BOXES, SCORE_THR
from mmscope.visualization.image_files import ImageFiles, class_meta
from mmscope.visualization.rows import PANEL_WIDTH

DEFAULT_IMAGES = 3


def picture_parser(
    description: str, name: str
) -> tuple[argparse.ArgumentParser, Any]:
    """Make a command line: which images of which model are drawn where.

    Args:
        description (str): Shown by --help.
        name (str): Stem of the picture if no --out says another.

    Returns:
        tuple[argparse.ArgumentParser, Any]: Parser, and the group of options
        that choose the images, of which one may be given.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    source = _add_source(parser)
    _add_target(parser, name)
    parser.add_argument('--device', type=device, help='such as cpu or cuda:0')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='config overrides'
    )
    return parser, source


def _add_source(parser: argparse.ArgumentParser) -> Any:
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
        '--images', nargs='+', metavar='FILE', help='image files instead'
    )
    return source


def _add_target(parser: argparse.ArgumentParser, name: str) -> None:
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
    """Find the images to show.

    Args:
        cfg (Config): Of ``open_config``.
        args (argparse.Namespace): Of :func:`picture_parser`.
        choose (Callable | None): Data set to indices, where neither files
            nor indices are given; None spreads three. Defaults to None.

    Returns:
        tuple[Any, list[int]]: Data set and indices.
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


def write_pictures(
    args: argparse.Namespace,
    default: Path,
    draw: Callable[..., list[Path]],
    model: nn.Module,
    dataset: Any,
    indices: list[int],
    **drawing: Any,
) -> None:
    """Draw, and print the names of the files.

    Args:
        args (argparse.Namespace): Of :func:`picture_parser`.
        default (Path): File if neither --out nor --out-dir was given.
        draw (Callable): Such as ``draw_scopes``.
        model (nn.Module): Model.
        dataset (Any): Of :func:`choose_images`.
        indices (list[int]): Of :func:`choose_images`.
        **drawing (Any): Further options.
    """
    file = Path(args.out or default)
    if not file.suffix:
        file = file.with_suffix('.png')
    with user_errors(OSError):
        files = draw(
            model,
            dataset,
            args.out_dir or file,
            indices,
            score_thr=args.score_thr,
            panel_width=args.panel_width,
            **drawing,
        )
    for file in files:
        print(file)
