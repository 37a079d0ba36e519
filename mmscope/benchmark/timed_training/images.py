"""Images decoded once and kept on the device."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from mmscope.errors import UserError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')
# Of the training images of a class, where there is no folder 'val'.
HELD_OUT = 0.1
THREADS = 16


@dataclass
class Images:
    """Decoded images of one split.

    Args:
        pixels (Tensor): (n, 3, H, W) uint8, BGR as OpenCV and the hosts'
            loader give them.
        labels (Tensor): (n,) int64.
        names (list[str]): File below the split's folder, of each.
        classes (tuple[str, ...]): In the order of the labels.
    """

    pixels: Tensor
    labels: Tensor
    names: list[str]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Images:
        """Move pixels and labels."""
        return Images(
            self.pixels.to(device),
            self.labels.to(device),
            self.names,
            self.classes,
        )

    def pick(self, chosen: Sequence[int]) -> Images:
        """Return some of the images."""
        index = torch.as_tensor(chosen, device=self.labels.device)
        names = [self.names[i] for i in chosen]
        return Images(
            self.pixels[index], self.labels[index], names, self.classes
        )


def read_splits(source: str | Path) -> dict[str, Images]:
    """Read images from ``train/<class>/*`` and ``test/<class>/*``.

    Args:
        source (str | Path): Folder, or tar archive; without ``val/<class>/*``
            the last tenth of each class's training images is held out.

    Returns:
        dict[str, Images]: 'train', 'val', 'test'.

    Raises:
        UserError: If a split is missing, empty or has other classes, a file
            cannot be decoded, or images differ in size.
    """
    source = Path(source)
    if not source.exists():
        raise UserError(f'--data {source} does not exist')
    files: dict[str, dict[str, bytes]] = {}
    for name, content in _contents(source):
        split, _, rest = name.partition('/')
        files.setdefault(split, {})[rest] = content
    for split in ('train', 'test'):
        if split not in files:
            raise UserError(
                f'{source} has no {split}/<class>/*.jpg (or .png); it has '
                f'{sorted(files) or "no images"}'
            )
    classes = _classes(files['train'])
    found = {
        split: _decode(source, split, files[split], classes)
        for split in ('train', 'val', 'test')
        if split in files
    }
    if 'val' not in found:
        found['train'], found['val'] = hold_out(found['train'])
    return found


def _contents(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path below the source and content of every image file."""
    if source.is_dir():
        for path in sorted(source.glob('*/*/*')):
            if path.suffix.lower() in SUFFIXES:
                yield path.relative_to(source).as_posix(), path.read_bytes()
        return
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                name = member.name.removeprefix('./')
                if member.isfile() and name.lower().endswith(SUFFIXES):
                    yield name, archive.extractfile(member).read()
    except tarfile.TarError as error:
        raise UserError(
            f'{source} is neither a folder nor a tar archive: {error}'
        ) from error


def _classes(files: dict[str, bytes]) -> tuple[str, ...]:
    return tuple(sorted({name.split('/')[0] for name in files}))


def _decode(
    source: Path, split: str, files: dict[str, bytes], classes: tuple[str, ...]
) -> Images:
    unknown = set(_classes(files)) - set(classes)
    if unknown:
        raise UserError(
            f'{source}/{split} has the classes {sorted(unknown)}, which '
            f'{source}/train lacks'
        )
    names = sorted(files)

    def decode(name: str) -> np.ndarray:
        buffer = np.frombuffer(files[name], np.uint8)
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        if image is None:
            raise UserError(f'{source}: {split}/{name} cannot be decoded')
        return image

    with ThreadPoolExecutor(THREADS) as pool:
        images = list(pool.map(decode, names))
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise UserError(
            f'{source}/{split} has images of {len(shapes)} sizes, such as '
            f'{sorted(shapes)[:2]}: this needs images of one size'
        )
    labels = [classes.index(name.split('/')[0]) for name in names]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return Images(pixels.contiguous(), torch.tensor(labels), names, classes)


def hold_out(images: Images, share: float = HELD_OUT) -> tuple[Images, Images]:
    """Hold the last images of each class out; images are sorted by name.

    Raises:
        UserError: If a class has but one image.
    """
    stay, held = [], []
    for label, name in enumerate(images.classes):
        of_class = (images.labels == label).nonzero()[:, 0].tolist()
        if len(of_class) < 2:
            raise UserError(
                f'class {name} has {len(of_class)} training image(s): at '
                'least 2 are needed to hold one out'
            )
        number = max(1, round(share * len(of_class)))
        stay += of_class[:-number]
        held += of_class[-number:]
    return images.pick(sorted(stay)), images.pick(sorted(held))


def evaluation_batches(images: Images, batch: int) -> list[dict]:
    """Make batches for ``model.test_step``, with names and labels."""
    # The host that the config named; this room imports none.
    DataSample = import_module('mmpretrain.structures').DataSample

    found = []
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        samples = []
        for label, name in zip(
            images.labels[part].tolist(), images.names[part], strict=True
        ):
            sample = DataSample().set_gt_label(label)
            sample.set_metainfo({'img_path': name})
            samples.append(sample)
        found.append({'inputs': images.pixels[part], 'data_samples': samples})
    return found
