"""What can be done to a file, whatever data set it belongs to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

HTML = b'<!DOCTYPE html><html><title>404 Not Found</title></html>\n'
# What must come of it: SAME, as without; REFUSED, an error or at least a
# warning; SOUND, an error, or data that are consistent in themselves.
SAME, REFUSED, SOUND = 'same', 'refused', 'sound'


@dataclass(frozen=True)
class Mutation:
    """One kind of damage.

    Args:
        name (str): For the table.
        wanted (str): SAME, REFUSED or SOUND.
        apply (Callable): Changes the files below a folder; gets the folder
            and a random generator.
    """

    name: str
    wanted: str
    apply: Callable[[Path, np.random.Generator], None]


def on_file(
    pattern: str, change: Callable[[Path, np.random.Generator], None]
) -> Callable[[Path, np.random.Generator], None]:
    """Change one file of those that match a pattern."""

    def apply(root: Path, rng: np.random.Generator) -> None:
        files = sorted(p for p in root.glob(pattern) if p.is_file())
        if files:
            change(files[rng.integers(len(files))], rng)

    return apply


def truncate(path: Path, rng: np.random.Generator) -> None:
    """Cut off between a tenth and nine tenths."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * rng.uniform(0.1, 0.9))])


def flip_bytes(path: Path, rng: np.random.Generator) -> None:
    """Change eight bytes anywhere."""
    data = bytearray(path.read_bytes())
    for place in rng.integers(len(data), size=8):
        data[place] ^= int(rng.integers(1, 256))
    path.write_bytes(bytes(data))


def to_html(path: Path, rng: np.random.Generator) -> None:
    """Replace it by an error page, as downloads do."""
    path.write_bytes(HTML)


def to_nothing(path: Path, rng: np.random.Generator) -> None:
    """Leave a file of no bytes."""
    path.write_bytes(b'')


def to_pipe(path: Path, rng: np.random.Generator) -> None:
    """Replace it by a pipe that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def to_broken_link(path: Path, rng: np.random.Generator) -> None:
    """Replace it by a link to nowhere."""
    path.unlink()
    path.symlink_to('nowhere')


def to_link_loop(path: Path, rng: np.random.Generator) -> None:
    """Replace it by a link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def to_folder(path: Path, rng: np.random.Generator) -> None:
    """Replace it by an empty folder of its name."""
    path.unlink()
    path.mkdir()


def to_link(path: Path, rng: np.random.Generator) -> None:
    """Move it elsewhere and link to it, as annexes do."""
    place = path.parents[1] / f'.moved_{path.name}'
    path.rename(place)
    path.symlink_to(place)


def remove(path: Path, rng: np.random.Generator) -> None:
    """Remove it."""
    path.unlink()


def in_mode(mode: str) -> Callable[[Path, np.random.Generator], None]:
    """Store an image in another of Pillow's modes."""

    def change(path: Path, rng: np.random.Generator) -> None:
        image = Image.open(path)
        image.load()
        if mode == 'I;16':
            values = np.asarray(image.convert('L')).astype(np.uint16)
            image = Image.fromarray(values * 257)
        elif mode == 'F':
            image = Image.fromarray(np.asarray(image.convert('L')) / 2.0)
        else:
            image = image.convert(mode)
        kind = 'JPEG' if mode == 'CMYK' else 'TIFF' if mode == 'F' else 'PNG'
        image.save(path, kind)

    return change


def turned(
    *orientations: int,
) -> Callable[[Path, np.random.Generator], None]:
    """Give an image an EXIF orientation, as cameras do."""

    def change(path: Path, rng: np.random.Generator) -> None:
        exif = Image.Exif()
        exif[0x0112] = int(rng.choice(orientations))
        image = Image.open(path)
        image.load()
        image.save(path, 'JPEG', exif=exif)

    return change


def resized(path: Path, rng: np.random.Generator) -> None:
    """Swap width and height, or shrink."""
    image = Image.open(path)
    image.load()
    width, height = image.size
    size = (height, width) if rng.random() < 0.5 else (width - 3, height)
    image.resize(size, Image.Resampling.NEAREST).save(path, image.format)


def encoded(
    encoding: str, name: str = ''
) -> Callable[[Path, np.random.Generator], None]:
    """Store a text in another encoding, with a name that it needs."""

    def change(path: Path, rng: np.random.Generator) -> None:
        text = name + path.read_text()
        path.write_bytes(text.encode(encoding))

    return change


def crlf(path: Path, rng: np.random.Generator) -> None:
    """End lines as other systems do."""
    path.write_bytes(path.read_bytes().replace(b'\n', b'\r\n'))


# Damage to any image that must be noticed.
BROKEN_IMAGE = {
    'cut image': truncate,
    'HTML as image': to_html,
    'empty image': to_nothing,
    'pipe as image': to_pipe,
    'broken link as image': to_broken_link,
    'link to itself as image': to_link_loop,
}
