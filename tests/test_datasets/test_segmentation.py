from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg', reason='needs mmsegmentation')

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


def test_both_are_registered_and_keep_the_host_metainfo():
    assert DATASETS.get('mmscope.ADE20KDataset') is ADE20KDataset
    assert DATASETS.get('mmscope.CamVidDataset') is CamVidDataset
    assert len(ADE20KDataset.METAINFO['classes']) == 150
    assert len(CamVidDataset.METAINFO['classes']) == 11
    assert len(CamVidDataset.METAINFO['palette']) == 11
