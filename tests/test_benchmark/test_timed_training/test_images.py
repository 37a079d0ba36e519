from __future__ import annotations

import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from mmscope.benchmark.timed_training.augmentation import (
    Augmentation,
    augmentation_of,
)
from mmscope.benchmark.timed_training.images import hold_out, read_splits
from mmscope.errors import UserError

from .conftest import write_photos

LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackInputs')


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_images_are_read_as_the_hosts_read_them(photos):
    splits = read_splits(photos)
    test = splits['test']
    assert test.classes == ('blue', 'green')
    assert test.labels.tolist() == [0, 0, 1, 1]
    assert test.names[2] == 'green/0.png'
    image = np.array(Image.open(photos / 'test' / 'green' / '0.png'))
    # BGR, channels first.
    expected = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    assert torch.equal(test.pixels[2], expected)


def test_an_archive_is_read_like_the_folder(photos, tmp_path):
    archive = tmp_path / 'photos.tar.xz'
    with tarfile.open(archive, 'w:xz') as file:
        for split in ('test', 'train'):
            file.add(photos / split, split)
    unpacked, packed = read_splits(photos), read_splits(archive)
    for split, images in unpacked.items():
        assert images.names == packed[split].names
        assert torch.equal(images.pixels, packed[split].pixels)


def test_the_last_of_each_class_are_held_out(photos):
    splits = read_splits(photos)
    assert splits['val'].names == ['blue/5.png', 'green/5.png']
    assert len(splits['train']) == 10
    write_photos(photos / 'val', 3)
    splits = read_splits(photos)
    assert (len(splits['train']), len(splits['val'])) == (12, 6)


def test_holding_out_keeps_labels_and_pixels_together(photos):
    images = read_splits(photos)['test']
    stay, held = hold_out(images)
    assert torch.equal(stay.pixels, images.pixels[[0, 2]])
    assert held.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda root: (root / 'test').rename(root / 'other'), 'has no test/'),
        (
            lambda root: write_photos(root / 'val' / 'x' / '..', size=16),
            None,
        ),
        (
            lambda root: (
                (root / 'test' / 'red').mkdir()
                or Image.new('RGB', (32, 32)).save(root / 'test/red/0.png')
            ),
            r"classes \['red'\]",
        ),
        (
            lambda root: (root / 'test/blue/0.png').write_bytes(b'x'),
            'blue/0.png cannot be decoded',
        ),
        (
            lambda root: Image.new('RGB', (8, 8)).save(
                root / 'test/blue/0.png'
            ),
            'images of 2 sizes',
        ),
    ],
)
def test_bad_data_is_explained(photos, spoil, message):
    spoil(photos)
    if message is None:
        # Each split may have a size of its own.
        assert read_splits(photos)['val'].pixels.shape[-1] == 16
        return
    with pytest.raises(UserError, match=message):
        read_splits(photos)


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        read_splits(tmp_path / 'nowhere')


def test_crops_are_windows_of_the_padded_image():
    pixels = torch.arange(1, 4 * 3 * 6 * 6 + 1).reshape(4, 3, 6, 6)
    found = Augmentation(6, 2)(pixels, generator())
    padded = torch.nn.functional.pad(pixels, [2] * 4)
    for image, whole in zip(found, padded, strict=True):
        windows = whole.unfold(1, 6, 1).unfold(2, 6, 1)
        same = (windows == image[:, None, None]).all(-1).all(-1).all(0)
        assert same.sum() == 1
    # Not all of them the same.
    assert len({str(image == 0) for image in found}) > 1


@pytest.mark.parametrize(('chance', 'flipped'), [(0.0, False), (1.0, True)])
def test_flips_mirror_columns(chance, flipped):
    pixels = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    found = Augmentation(flip=chance)(pixels, generator())
    assert torch.equal(found, pixels.flip(-1) if flipped else pixels)


def test_half_of_many_images_are_flipped():
    pixels = torch.arange(3 * 2 * 2).reshape(1, 3, 2, 2).repeat(400, 1, 1, 1)
    found = Augmentation(flip=0.5)(pixels, generator())
    share = (found[:, 0, 0, 0] == 1).float().mean()
    assert 0.4 < share < 0.6


def test_the_pipeline_of_the_config_is_understood():
    pipeline = [
        LOAD,
        dict(type='RandomCrop', crop_size=32, padding=4),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        PACK,
    ]
    assert augmentation_of(pipeline) == Augmentation(32, 4, 0.5)


@pytest.mark.parametrize(
    'transform',
    [
        dict(type='RandomErasing', erase_prob=0.25),
        dict(type='RandomFlip', prob=0.5, direction='vertical'),
        dict(type='RandomCrop', crop_size=32, padding_mode='reflect'),
    ],
)
def test_what_cannot_be_done_on_the_device_is_refused(transform):
    with pytest.raises(UserError, match='cannot be done on the device'):
        augmentation_of([LOAD, transform, PACK])
