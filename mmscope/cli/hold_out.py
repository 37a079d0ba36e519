r"""Hold out the last images of every class folder as a validation split.

    python tools/dataset_converters/hold_out.py data/mine/train \
        data/mine/val --count 50
    python tools/dataset_converters/hold_out.py /readonly/train \
        data/mine/val --count 50 --link-train data/mine/train

The last ones by name are taken, so the split is the same on every machine.
They are moved; with --link-train nothing moves, and both splits are made of
symbolic links. A VAL that holds anything is refused: a second run would take
the next images.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from mmscope.cli.arguments import tool_parser
from mmscope.datasets.class_folders import find_images, list_class_folders
from mmscope.errors import UserError, user_errors

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('train', type=Path, help='TRAIN/<class>/<image>')
    parser.add_argument('val', type=Path, help='folder to make')
    parser.add_argument(
        '--count',
        type=int,
        required=True,
        help='images to hold out of every class',
    )
    parser.add_argument(
        '--link-train',
        type=Path,
        metavar='FOLDER',
        help='leave TRAIN as it is, link its images from here and from VAL',
    )
    return parser.parse_args(argv)


def hold_out(
    train: Path, val: Path, count: int, link_train: Path | None = None
) -> int:
    """Split off the last images of every class; give how many.

    Raises UserError if a folder to make is in use, or a class has too few;
    DatasetLayoutError if ``train`` holds no class folders.
    """
    kept, held = _split(train, count)
    for folder in (val, link_train):
        if folder is not None and folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f'{folder} holds something already, nothing was changed: the '
                'split may have been made before. Name a new folder'
            )
    if link_train is None:
        _place(train, val, held, shutil.move)
    else:
        _place(train, link_train, kept, _link)
        _place(train, val, held, _link)
    return len(held)


def _split(train: Path, count: int) -> tuple[list[Path], list[Path]]:
    """All images but the last of each class, and the last."""
    names = list_class_folders(train, EXTENSIONS)
    samples = find_images(train, names, EXTENSIONS)
    kept, held = [], []
    for label, group in groupby(samples, key=itemgetter(1)):
        images = [Path(path) for path, _ in group]
        if not 0 < count < len(images):
            raise UserError(
                f'--count {count}: class {names[label]} has {len(images)} '
                'images, and both splits need at least one. Nothing was '
                'changed'
            )
        kept += images[:-count]
        held += images[-count:]
    return kept, held


def _place(
    train: Path,
    target: Path,
    images: list[Path],
    place: Callable[[Path, Path], object],
) -> None:
    for image in images:
        new = target / image.relative_to(train)
        new.parent.mkdir(parents=True, exist_ok=True)
        place(image, new)


def _link(image: Path, new: Path) -> None:
    new.symlink_to(image.resolve())


def main(argv: list[str] | None = None) -> None:
    """Split, and say what was done."""
    args = parse_args(argv)
    with user_errors():
        held = hold_out(args.train, args.val, args.count, args.link_train)
    how = 'moved' if args.link_train is None else 'linked'
    print(f'{held} images {how} to {args.val}')
