from __future__ import annotations

import os
import shutil

import pytest
from PIL import Image

from mmscope.datasets import DatasetLayoutError
from mmscope.datasets.class_folders import (
    check_same_classes,
    find_images,
    list_class_folders,
)

ENDINGS = ('.jpg', '.jpeg', '.png')


def test_class_folders_are_sorted_and_hidden_ones_left_out(image_folder):
    (image_folder / 'train' / '.ipynb_checkpoints').mkdir()
    (image_folder / 'train' / 'README.txt').touch()
    found = list_class_folders(image_folder / 'train', ENDINGS)
    assert found == ('n01', 'n02', 'n03')


def test_images_are_found_at_any_depth_with_their_label(image_folder):
    deep = image_folder / 'val' / 'n02' / 'part'
    deep.mkdir()
    Image.new('RGB', (8, 8)).save(deep / 'a.png')
    (deep / '.hidden.png').touch()
    (deep / 'notes.txt').touch()
    samples = find_images(image_folder / 'val', ('n02', 'n03'), ENDINGS)
    assert samples == [
        (str(image_folder / 'val/n02/0.JPEG'), 0),
        (str(deep / 'a.png'), 0),
        (str(image_folder / 'val/n03/0.JPEG'), 1),
    ]


def test_a_missing_folder_names_the_nearest_parent(image_folder):
    shutil.rmtree(image_folder)
    (image_folder.parent / 'camvid').mkdir()
    with pytest.raises(DatasetLayoutError) as error:
        list_class_folders(image_folder / 'train', ENDINGS)
    message = str(error.value)
    assert f'{image_folder / "train"} does not exist' in message
    assert f'{image_folder.parent} holds camvid' in message
    assert 'MMSCOPE_IMAGENET' in message
    assert 'train/<class>/<image>' in message


@pytest.mark.parametrize('between', ['imagenet', 'ILSVRC/Data/CLS-LOC'])
def test_a_root_one_level_too_high_names_the_right_one(image_folder, between):
    root = image_folder.parent / 'unpacked'
    shutil.copytree(image_folder, root / between)
    with pytest.raises(DatasetLayoutError) as error:
        list_class_folders(root / 'train', ENDINGS)
    assert f'set data_root to {root / between}' in str(error.value)


def test_an_archive_unpacked_one_level_too_deep_is_named(image_folder):
    train = image_folder / 'train'
    shutil.copytree(train, image_folder / 'new' / 'train')
    with pytest.raises(DatasetLayoutError, match='one level too deep') as e:
        list_class_folders(image_folder / 'new', ENDINGS)
    assert f'from {image_folder / "new" / "train"}' in str(e.value)


def test_one_class_alone_is_no_wrong_depth(image_folder):
    for name in ('n02', 'n03'):
        shutil.rmtree(image_folder / 'val' / name)
    assert list_class_folders(image_folder / 'val', ENDINGS) == ('n01',)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DatasetLayoutError, match='no class folder, found no'):
        list_class_folders(tmp_path, ENDINGS)


def test_flat_validation_images_say_how_to_sort_them(image_folder):
    flat = image_folder / 'flat'
    flat.mkdir()
    for index in range(4):
        (flat / f'ILSVRC2012_val_{index:08d}.JPEG').touch()
    with pytest.raises(DatasetLayoutError) as error:
        list_class_folders(flat, ENDINGS)
    message = str(error.value)
    assert '4 images directly' in message
    assert 'sort_by_class.py' in message


def test_half_sorted_images_are_refused(image_folder):
    (image_folder / 'val' / 'left.jpg').touch()
    with pytest.raises(DatasetLayoutError, match='beside 3 class folders'):
        list_class_folders(image_folder / 'val', ENDINGS)


def test_packed_class_archives_are_named(tmp_path):
    (tmp_path / 'n01440764.tar').touch()
    with pytest.raises(DatasetLayoutError, match='n01440764.tar.*unpack'):
        list_class_folders(tmp_path, ENDINGS)


def test_an_empty_class_folder_is_named_with_the_endings(image_folder):
    for path in (image_folder / 'val' / 'n02').iterdir():
        path.rename(path.with_suffix('.heic'))
    with pytest.raises(DatasetLayoutError, match=r'1 of 3.*n02.*\.jpeg'):
        find_images(image_folder / 'val', ('n01', 'n02', 'n03'), ENDINGS)


def test_missing_and_extra_classes_are_both_named():
    with pytest.raises(DatasetLayoutError) as error:
        check_same_classes('val', ['a', 'd'], ['a', 'b', 'c'], 'train')
    message = str(error.value)
    assert "lacks 2 of the 3 class folders of train ('b', 'c')" in message
    assert "has 1 class folders that train lacks ('d')" in message


def test_broken_links_and_pipes_are_named_and_not_opened(image_folder):
    train, folders = image_folder / 'train', ('n01', 'n02', 'n03')
    (train / 'n01' / 'a.jpg').symlink_to('nowhere.jpg')
    os.mkfifo(train / 'n02' / 'b.jpeg')
    (train / 'n03' / 'c.jpg').symlink_to('c.jpg')
    with pytest.raises(DatasetLayoutError) as error:
        find_images(train, folders, ENDINGS)
    text = str(error.value)
    assert '3 entries' in text
    assert "a.jpg' is a broken link" in text
    assert "b.jpeg' is a pipe" in text
    (train / 'n04').symlink_to('nowhere')
    with pytest.raises(DatasetLayoutError, match="n04' is a broken link"):
        list_class_folders(train, ENDINGS)


def test_a_link_to_a_folder_above_does_not_repeat_images(image_folder):
    train = image_folder / 'train'
    (train / 'n01' / 'again').symlink_to(train / 'n01')
    assert len(find_images(train, ('n01',), ENDINGS)) == 2
