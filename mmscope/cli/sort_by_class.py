"""Sort a flat folder of images into class folders, by a list.

    python tools/dataset_converters/sort_by_class.py data/imagenet/val LIST

ImageNet's validation archive has 50,000 images in one folder. LIST says the
class of each, one image per line: its name, with or without ending, and the
class, divided by a blank, a comma or a TAB (LOC_val_solution.csv of the
Kaggle download is such a list; names with blanks need a TAB). Where classes
are numbers from 0, as in the val.txt of several frameworks, --train names the
folder whose sorted class folders they count. Images are moved; nothing is
touched unless all of them are in the list.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections import Counter
from pathlib import Path

from mmscope.cli.arguments import tool_parser
from mmscope.datasets.class_folders import list_class_folders
from mmscope.datasets.files import read_lines
from mmscope.errors import UserError, user_errors

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('folder', type=Path, help='flat folder of images')
    parser.add_argument('list', type=Path, help="'name class' on each line")
    parser.add_argument(
        '--train', type=Path, help='class folders that numbers count'
    )
    return parser.parse_args(argv)


def sort_by_class(folder: Path, path: Path, train: Path | None = None) -> int:
    """Move every image of a flat folder into the folder of its class.

    ``train`` has the class folders that numbers count. Raises UserError if
    there are no images, the list cannot be read or lacks some, or numbers come
    without ``train``.
    """
    if not folder.is_dir():
        raise UserError(f'{folder.absolute()} does not exist')
    images = [p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS]
    if not images:
        raise UserError(f'{folder.absolute()} holds no images to sort')
    twice = [
        name for name, n in Counter(i.stem for i in images).items() if n > 1
    ]
    if twice:
        raise UserError(
            f'{folder} holds {len(twice)} names with two endings (such as '
            f'{twice[0]!r}), which the list cannot tell apart'
        )
    classes = read_list(path)
    numbers = all(
        name.isascii() and name.isdecimal() for name in classes.values()
    )
    if numbers:
        classes = _name_numbers(classes, path, train)
    unknown = sorted(i.name for i in images if i.stem not in classes)
    if unknown:
        raise UserError(
            f'{path} lacks {len(unknown)} of {len(images)} images in '
            f'{folder} (such as {unknown[0]!r}), nothing was changed'
        )
    for image in images:
        target = folder / classes[image.stem]
        target.mkdir(exist_ok=True)
        os.rename(image, target / image.name)
    return len(images)


def read_list(path: Path) -> dict[str, str]:
    """Read the class of every image.

    Returns:
        dict[str, str]: Name without ending -> class as it stands there.

    Raises:
        UserError: If a line is no such pair, or an image has two classes.
        DatasetLayoutError: If the file is absent or no UTF-8.
    """
    lines = read_lines(path, 'list', "'name class'")
    kaggle = lines[0].startswith('ImageId,')
    classes: dict[str, str] = {}
    for number, line in enumerate(lines[kaggle:], start=1 + kaggle):
        if not line.strip():
            continue
        name, label = _pair(line, kaggle, f'{path}, line {number}')
        place = Path(name)
        ending = place.suffix.lower() in EXTENSIONS
        name = place.stem if ending else place.name
        if classes.setdefault(name, label) != label:
            raise UserError(
                f'{path}, line {number}: {name!r} is {label!r} here and '
                f'{classes[name]!r} above, nothing was changed'
            )
    return classes


def _pair(line: str, kaggle: bool, where: str) -> tuple[str, str]:
    """Divide a line in the one way that it can be divided."""
    words = line.split('\t') if '\t' in line else line.split()
    if ',' in line and '\t' not in line:
        (words,) = csv.reader([line])
    if kaggle and len(words) == 2:
        # Behind the class come boxes.
        words[1] = words[1].split()[0] if words[1].split() else ''
    words = [word.strip() for word in words]
    if len(words) != 2 or '' in words:
        raise UserError(
            f"{where}: expected 'name class', got {line!r}. Names with "
            'blanks or commas need a TAB before the class. Lists of numbers '
            'alone (such as ILSVRC2012_validation_ground_truth.txt) count '
            'classes in an order of their own and cannot be used'
        )
    if Path(words[1]).name != words[1]:
        raise UserError(
            f'{where}: class {words[1]!r} is no name of one folder'
        )
    return words[0], words[1]


def _name_numbers(
    classes: dict[str, str], path: Path, train: Path | None
) -> dict[str, str]:
    if train is None:
        raise UserError(
            f'{path} gives classes as numbers: --train FOLDER names the '
            'folder whose sorted class folders they count'
        )
    names = list_class_folders(train, EXTENSIONS)
    highest = max(map(int, classes.values()))
    if highest >= len(names):
        raise UserError(
            f'{path} counts up to class {highest}, {train} has '
            f'{len(names)} class folders, counted from 0'
        )
    return {name: names[int(number)] for name, number in classes.items()}


def main(argv: list[str] | None = None) -> None:
    """Sort, and say what was done."""
    args = parse_args(argv)
    with user_errors():
        moved = sort_by_class(args.folder, args.list, args.train)
    print(f'{moved} images sorted into class folders of {args.folder}')
