r"""Hold out the last images of every class folder as a validation split.

    python tools/dataset_converters/hold_out.py data/mine/train \
        data/mine/val --count 50
    python tools/dataset_converters/hold_out.py /readonly/train \
        data/mine/val --count 50 --link-train data/mine/train

The last ones by name are taken, so the split is the same on every machine.
They are moved; with --link-train nothing moves, and both splits are made of
symbolic links. A run that is stopped, or fails, undoes what it did. A VAL that
holds anything is refused: a second run would take the next images.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby, permutations
from operator import itemgetter
from pathlib import Path

from mmscope.cli.arguments import tool_parser
from mmscope.datasets.class_folders import find_images, list_class_folders
from mmscope.errors import UserError, user_errors
from mmscope.runtime import ending_cleanly

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

    Raises UserError if a folder to make is in use or in another one, or a
    class has too few; DatasetLayoutError if ``train`` holds no class folders.
    """
    kept, held = _split(train, count)
    _check_apart(train, val, *([] if link_train is None else [link_train]))
    for folder in (val, link_train):
        if folder is not None and folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f'{folder} holds something already, nothing was changed: the '
                'split may have been made before. Name a new folder'
            )
    places = [(image, val / image.relative_to(train)) for image in held]
    if link_train is None:
        _place(places, shutil.move)
    else:
        links = [(i, link_train / i.relative_to(train)) for i in kept]
        _place(links + places, _link)
    return len(held)


def _check_apart(*folders: Path) -> None:
    for inner, outer in permutations(folders, 2):
        if inner.resolve().is_relative_to(outer.resolve()):
            raise UserError(
                f'{inner} is or lies in {outer}, so images of one would be '
                'taken for images of the other: name folders beside each '
                'other. Nothing was changed'
            )


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
    places: list[tuple[Path, Path]], place: Callable[[Path, Path], object]
) -> None:
    """Put every image where it belongs, or none."""
    begun, made = [], set()
    try:
        for image, new in places:
            begun.append((image, new))
            made.update(p for p in new.parents if not p.exists())
            new.parent.mkdir(parents=True, exist_ok=True)
            place(image, new)
    except BaseException:
        with _undisturbed():
            _undo(begun, made)
        raise


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM: a second one would break the undoing off."""
    # Others may not, and get no signals.
    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = {n: signal.signal(n, signal.SIG_IGN) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _undo(begun: list[tuple[Path, Path]], made: set[Path]) -> None:
    for image, new in begun:
        if os.path.lexists(image):
            # A link, or a copy between two disks that was not finished.
            new.unlink(missing_ok=True)
        else:
            shutil.move(new, image)
    # What lies in a folder comes behind it.
    for folder in sorted(made, reverse=True):
        if folder.is_dir():
            folder.rmdir()


def _link(image: Path, new: Path) -> None:
    new.symlink_to(image.resolve())


@ending_cleanly(': every image is where it was')
def main(argv: list[str] | None = None) -> None:
    """Split, and say what was done."""
    args = parse_args(argv)
    with user_errors(OSError):
        held = hold_out(args.train, args.val, args.count, args.link_train)
    how = 'moved' if args.link_train is None else 'linked'
    print(f'{held} images {how} to {args.val}')
