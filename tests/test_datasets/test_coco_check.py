from __future__ import annotations

import pytest
from builders.coco import annotation, content
from PIL import Image

from mmscope.datasets import DatasetLayoutError
from mmscope.datasets.coco_check import (
    check_categories,
    check_images,
    check_size,
)


def refused(check, *args):
    with pytest.raises(DatasetLayoutError) as error:
        check(*args)
    return str(error.value)


def test_the_file_s_classes_and_some_of_them_pass():
    what = content(classes=('ant', 'bee', 'cat'))
    check_categories(what, ('ant', 'bee', 'cat'), 'a.json')
    check_categories(what, ['ant', 'cat'], 'a.json')


def test_missing_classes_are_listed_with_similar_ones_and_the_fix():
    what = content(classes=('RBC', 'WBC', 'Platelet'))
    wanted = ('rbc', 'WBC', 'Platelets', 'person')
    message = refused(check_categories, what, wanted, 'a.json')
    assert 'a.json lacks 3 of the 4 classes' in message
    assert '(rbc, Platelets, person)' in message
    assert "Similar in the file: 'RBC' for 'rbc', 'Platelet' for" in message
    assert "metainfo=dict(classes=('RBC', 'WBC', 'Platelet'))" in message
    assert 'num_classes=3 in every bbox_head' in message


def test_eighty_classes_against_three_and_back_stay_readable():
    many = tuple(f'class{i}' for i in range(80))
    few = ('RBC', 'WBC', 'Platelets')
    message = refused(check_categories, content(classes=few), many, 'a')
    assert 'lacks 80 of the 80 classes' in message
    assert 'class4 and 75 more' in message
    message = refused(check_categories, content(classes=many), few, 'a')
    assert 'lacks 3 of the 3 classes' in message
    assert 'it has 80: class0' in message
    assert 'classes=(...)' in message
    assert len(message) < 900


def test_a_keypoints_file_is_suspected():
    what = content(annotation(1, keypoints=[0] * 51), classes=('person',))
    message = refused(check_categories, what, ('person', 'cat'), 'a.json')
    assert 'person_keypoints_*.json holds people alone' in message
    check_categories(what, ('person',), 'a.json')


def test_another_order_is_refused_with_the_right_one():
    what = content(classes=('ant', 'bee', 'cat', 'dog'))
    message = refused(check_categories, what, ('bee', 'ant', 'dog'), 'a')
    assert "label 0 is 'ant' there and 'bee' in metainfo.classes" in message
    assert "metainfo.classes=('ant', 'bee', 'dog')" in message


def test_text_and_repeated_classes_are_refused():
    what = content()
    message = refused(check_categories, what, 'square', 'a.json')
    assert "one class alone is ('square',), with a comma" in message
    message = refused(check_categories, what, ('flat', 'flat'), 'a.json')
    assert 'names flat more than once' in message


@pytest.fixture
def images(tmp_path):
    for i in range(4):
        Image.new('RGB', (64, 48)).save(tmp_path / f'{i}.png')
    return tmp_path


def test_images_of_the_right_size_pass(images):
    check_images(content(num_images=4), images, 'a.json', 9)


def test_a_missing_folder_says_what_it_is_made_of(images):
    folder = images / 'train2017'
    message = refused(check_images, content(), folder, 'a.json', 9)
    assert f'image folder {folder} does not exist ({images} holds' in message
    assert 'data_root and data_prefix.img' in message
    assert "'0.png'" in message


def test_missing_images_are_counted_and_named(images):
    (images / '2.png').unlink()
    what = content(num_images=4)
    message = refused(check_images, what, images, 'a.json', 9)
    assert '1 of 4 images that were looked for' in message
    assert "'2.png' does not exist" in message
    assert 'data_prefix.img' in message
    # 0 and 2 are looked at, then 0 alone.
    assert '1 of 2' in refused(check_images, what, images, 'a.json', 2)
    check_images(what, images, 'a.json', 1)


def test_an_image_of_another_size_is_refused(images):
    Image.new('RGB', (640, 480)).save(images / '3.png')
    message = refused(check_images, content(num_images=4), images, 'a.json', 9)
    assert '3.png is 640 x 480 (width x height), a.json says 64 x 48' in (
        message
    )


def test_an_image_that_a_camera_turned_is_as_large_as_it_is_loaded(tmp_path):
    mmcv = pytest.importorskip('mmcv', reason='needs mmcv')
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / 'a.jpg'
    Image.new('RGB', (64, 48)).save(path, exif=exif)
    assert mmcv.imread(str(path)).shape[:2] == (64, 48)
    check_size(path, {'width': 48, 'height': 64})
    message = refused(check_size, path, {'width': 64, 'height': 48})
    assert 'is 48 x 64 (width x height) after its EXIF rotation' in message


def test_what_is_no_image_is_refused(tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_text('<html>')
    assert 'cannot be read' in refused(check_size, path, {})
