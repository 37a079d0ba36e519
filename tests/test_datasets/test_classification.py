from __future__ import annotations

import shutil
from itertools import starmap
from pathlib import Path

import pytest

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

from mmscope.datasets import DatasetLayoutError, ImageFolder
from mmscope.registry import DATASETS


def labels(dataset):
    """Label of each class folder."""
    infos = starmap(dataset.get_data_info, zip(range(len(dataset))))
    return {
        Path(info['img_path']).parent.name: info['gt_label'] for info in infos
    }


def val(root, **options):
    options.setdefault('same_classes_as', 'train')
    return ImageFolder(data_root=str(root), data_prefix='val', **options)


def test_labels_are_sorted_folders_and_classes_their_names(image_folder):
    dataset = ImageFolder(data_root=str(image_folder), data_prefix='train')
    assert len(dataset) == 6
    assert labels(dataset) == {'n01': 0, 'n02': 1, 'n03': 2}
    assert dataset.metainfo['classes'] == ('n01', 'n02', 'n03')
    assert DATASETS.get('mmscope.ImageFolder') is ImageFolder


def test_it_lists_what_the_host_lists(image_folder):
    from mmpretrain.datasets import CustomDataset

    where = {'data_root': str(image_folder), 'data_prefix': 'train'}
    ours, host = ImageFolder(**where), CustomDataset(**where)
    assert [ours[i] for i in range(6)] == [host[i] for i in range(6)]
    assert ours.metainfo == host.metainfo
    assert ours.folder_to_idx == host.folder_to_idx


def test_a_class_missing_in_val_is_refused_instead_of_shifted(image_folder):
    shutil.rmtree(image_folder / 'val' / 'n02')
    assert labels(val(image_folder, same_classes_as='')) == {
        'n01': 0,
        'n03': 1,
    }
    with pytest.raises(DatasetLayoutError, match=r'lacks 1 of the 3.*n02'):
        val(image_folder)


def test_a_class_that_only_val_has_is_refused(image_folder):
    shutil.copytree(image_folder / 'val/n01', image_folder / 'val/n00')
    with pytest.raises(DatasetLayoutError, match=r'that .*train lacks.*n00'):
        val(image_folder)


def test_a_class_folder_empty_in_val_is_refused(image_folder):
    next((image_folder / 'val' / 'n02').iterdir()).unlink()
    with pytest.raises(DatasetLayoutError, match=r"no image \('n02'\)"):
        val(image_folder)


def test_val_alone_counts_its_own_classes(image_folder):
    shutil.rmtree(image_folder / 'train')
    assert labels(val(image_folder)) == {'n01': 0, 'n02': 1, 'n03': 2}


def test_a_class_list_takes_some_classes_in_its_order(image_folder):
    path = image_folder / 'classes.txt'
    path.write_text('n03\nn01\n')
    dataset = val(image_folder, class_list=str(path))
    assert labels(dataset) == {'n03': 0, 'n01': 1}
    assert dataset.metainfo['classes'] == ('n03', 'n01')
    path.write_text('n03\nn09\n')
    with pytest.raises(DatasetLayoutError, match=r'lacks 1 of the 2.*n09'):
        val(image_folder, class_list=str(path))


def test_an_image_list_is_taken_instead_of_folders(image_folder):
    (image_folder / 'few.txt').write_text('n02/0.JPEG 1\nn01/1.JPEG 0\n')
    dataset = ImageFolder(
        data_root=str(image_folder), data_prefix='train', ann_file='few.txt'
    )
    assert [dataset[i]['gt_label'] for i in range(2)] == [1, 0]
    with pytest.raises(DatasetLayoutError, match='none.txt does not exist'):
        ImageFolder(data_root=str(image_folder), ann_file='none.txt')


def test_labels_of_a_list_lie_below_the_number_of_classes(image_folder):
    (image_folder / 'few.txt').write_text('n02/0.JPEG 2\n')
    options = {
        'data_root': str(image_folder),
        'data_prefix': 'train',
        'ann_file': 'few.txt',
    }
    with pytest.raises(DatasetLayoutError, match=r"label 2 of 'n02/0.JPEG'"):
        ImageFolder(metainfo={'classes': ('a', 'b')}, **options)
    assert len(ImageFolder(metainfo={'classes': tuple('abc')}, **options)) == 1


def test_names_are_as_many_as_folders(image_folder):
    with pytest.raises(DatasetLayoutError, match=r'names 2 .* 3 class fold'):
        val(image_folder, metainfo={'classes': ('a', 'b')})


def test_lazy_data_sets_are_checked_when_they_load(tmp_path):
    lazy = val(tmp_path / 'no', lazy_init=True)
    with pytest.raises(DatasetLayoutError, match='does not exist'):
        lazy.full_init()
