from __future__ import annotations

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

pytest.importorskip('mmseg.models')

from mmscope.datasets import (
    ADE20KDataset,
    CamVidDataset,
    DatasetLayoutError,
)
from mmscope.registry import DATASETS

PREFIX = {
    'img_path': 'images/training',
    'seg_map_path': 'annotations/training',
}


@pytest.fixture
def folder(tmp_path):
    for kind, name in (('images', 'a.jpg'), ('annotations', 'a.png')):
        (tmp_path / kind / 'training').mkdir(parents=True)
        Image.fromarray(np.ones((8, 8), np.uint8)).save(
            tmp_path / kind / 'training' / name
        )
    return tmp_path


@pytest.mark.parametrize('dataset', [ADE20KDataset, CamVidDataset])
def test_a_good_folder_is_listed_with_zero_reduced(folder, dataset):
    built = dataset(data_root=str(folder), data_prefix=PREFIX)
    assert len(built) == 1
    entry = built.get_data_info(0)
    assert entry['img_path'].endswith('a.jpg')
    assert entry['seg_map_path'].endswith('a.png')
    assert entry['reduce_zero_label'] is True


@pytest.mark.parametrize('dataset', [ADE20KDataset, CamVidDataset])
def test_a_missing_folder_is_named_when_built(tmp_path, dataset):
    with pytest.raises(DatasetLayoutError, match='does not exist'):
        dataset(data_root=str(tmp_path / 'no'), data_prefix=PREFIX)


def test_lazy_data_sets_are_checked_when_they_load(tmp_path):
    built = ADE20KDataset(
        data_root=str(tmp_path / 'no'), data_prefix=PREFIX, lazy_init=True
    )
    with pytest.raises(DatasetLayoutError):
        built.full_init()


def many(folder, number=45):
    """More pairs than are opened before."""
    for kind in ('images', 'annotations'):
        place = folder / kind / 'training'
        (path,) = place.iterdir()
        for i in range(number):
            name = path.with_name(f'{i:03}{path.suffix}')
            name.write_bytes(path.read_bytes())
        path.unlink()
    return folder


LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}]


def loaded(folder, **options):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return CamVidDataset(
            data_root=str(folder),
            data_prefix=PREFIX,
            pipeline=[*LOAD, {'type': 'PackSegInputs'}],
            **options,
        )


def test_a_good_pair_is_what_the_host_loads(folder):
    sample = loaded(folder)[0]
    assert sample['inputs'].shape == (3, 8, 8)
    assert sample['data_samples'].gt_sem_seg.data.unique().tolist() == [0]


@pytest.mark.parametrize(
    ('mask', 'message'),
    [
        (np.full((8, 8), 12, np.uint8), 'label 11 in the mask .*001.png'),
        (
            np.full((8, 8), 259, np.uint16),
            "001.png is a PNG file of PIL mode 'I;16'",
        ),
        (
            np.zeros((8, 8, 4), np.uint8),
            "001.png is a PNG file of PIL mode 'RGBA'",
        ),
        (np.ones((8, 9), np.uint8), '001.jpg is 8 x 8 .* mask 9 x 8'),
    ],
)
def test_a_mask_that_nobody_opened_before_is_refused_when_loaded(
    folder, mask, message
):
    dataset = loaded(many(folder))
    assert dataset.get_data_info(1)['seg_map_path'].endswith('001.png')
    path = folder / 'annotations' / 'training' / '001.png'
    Image.fromarray(mask).save(path)
    # It is none of those that are opened at the start.
    dataset = loaded(folder)
    with pytest.raises(DatasetLayoutError, match=message):
        dataset[1]
    with pytest.raises(DatasetLayoutError, match='001'):
        dataset.check_item(1)
    dataset.check_item(2)


def test_a_picture_that_ends_too_early_is_named(folder):
    """OpenCV would fill the rest with grey."""
    path = folder / 'images' / 'training' / 'a.jpg'
    Image.effect_noise((8, 8), 90).save(path, quality=99)
    dataset = loaded(folder)
    dataset.check_item(0)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetLayoutError, match='a.jpg .* cannot be read'):
        dataset[0]
    with pytest.raises(DatasetLayoutError, match='a.jpg .* cannot be read'):
        dataset.check_item(0)


def test_ids_without_reduction_are_checked_as_they_are(folder):
    assert len(loaded(folder, reduce_zero_label=False)) == 1
    path = folder / 'annotations' / 'training' / 'a.png'
    Image.fromarray(np.full((8, 8), 11, np.uint8)).save(path)
    assert len(loaded(folder)) == 1
    with pytest.raises(DatasetLayoutError, match='expected 0..10 and 255'):
        loaded(folder, reduce_zero_label=False)


def test_both_are_registered_and_keep_the_host_metainfo():
    assert DATASETS.get('mmscope.ADE20KDataset') is ADE20KDataset
    assert DATASETS.get('mmscope.CamVidDataset') is CamVidDataset
    assert len(ADE20KDataset.METAINFO['classes']) == 150
    assert len(CamVidDataset.METAINFO['classes']) == 11
    assert len(CamVidDataset.METAINFO['palette']) == 11
