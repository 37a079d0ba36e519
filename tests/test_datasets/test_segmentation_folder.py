"""Images and masks of any classes, lists of them, and what looks wrong."""

from __future__ import annotations

import os

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

pytest.importorskip('mmseg.models')

from mmscope.datasets import DatasetLayoutError, SegmentationFolder
from mmscope.datasets.checked import without_samples
from mmscope.datasets.full_check import check_all

PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadAnnotations'},
    {'type': 'PackSegInputs'},
]
CLASSES = ('ground', 'cat', 'dog')


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, 4)


def write(root, number, ids=(0, 1, 2, 255), suffixes=('jpg', 'png')):
    for kind in ('images', 'masks'):
        (root / kind).mkdir(exist_ok=True)
    for i in range(number):
        picture = Image.new('RGB', (12, 8), (i, 90, 60))
        picture.save(root / 'images' / f'{i}.{suffixes[0]}')
        mask = np.resize(np.array(ids, np.uint8), (8, 12))
        Image.fromarray(mask).save(root / 'masks' / f'{i}.{suffixes[1]}')
    return root


def build(root, **options):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return SegmentationFolder(
            **{
                'data_root': str(root),
                'data_prefix': {'img_path': 'images', 'seg_map_path': 'masks'},
                'metainfo': {'classes': CLASSES},
                'img_suffix': '.jpg',
                'seg_map_suffix': '.png',
                'pipeline': PIPELINE,
                **options,
            }
        )


def refused(root, **options):
    with pytest.raises(DatasetLayoutError) as error:
        build(root, **options)
    return str(error.value)


def turn(path, orientation=3):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)


def test_any_classes_are_loaded_as_the_host_loads_them(folder):
    labels = build(folder)[0]['data_samples'].gt_sem_seg.data
    assert labels.unique().tolist() == [0, 1, 2, 255]


def test_ids_end_where_the_classes_do(folder):
    message = refused(folder, metainfo={'classes': CLASSES[:2]})
    assert 'holds the value 2, expected 0..1 and 255' in message


def test_another_id_may_be_no_class(tmp_path):
    root = write(tmp_path, 2, (0, 1, 2, 7))
    assert 'holds the value 7' in refused(root)
    sample = build(root, ignore_index=7)[0]
    assert sample['data_samples'].gt_sem_seg.data.max() == 7
    assert 'the value 255, expected 0..2 and 7' in refused(
        write(tmp_path, 2), ignore_index=7
    )


def test_endings_are_those_of_the_data_set(tmp_path):
    root = write(tmp_path, 2, suffixes=('bmp', 'tif'))
    assert 'holds no .jpg file, found .bmp' in refused(root)
    assert len(build(root, img_suffix='.bmp', seg_map_suffix='.tif')) == 2
    (root / 'masks' / '1.tif').unlink()
    message = refused(root, img_suffix='.bmp', seg_map_suffix='.tif')
    assert '1 images have no annotation' in message


@pytest.mark.parametrize('classes', [None, (), 'cat'])
def test_classes_must_be_named(folder, classes):
    message = refused(folder, metainfo={'classes': classes})
    assert f'metainfo.classes is {classes!r}' in message


def test_black_and_white_masks_are_said_to_have_one_class(tmp_path, said):
    root = write(tmp_path, 3, (0, 255))
    build(root, metainfo={'classes': ('no', 'yes')})
    assert 'all masks hold 0 and 255 alone, and 255 is no class' in said.text
    assert 'of 3 pairs' in refused(root, strict=True)
    said.clear()
    build(write(tmp_path, 3, (0, 1)), metainfo={'classes': ('no', 'yes')})
    assert not said.text


def test_classes_may_stand_in_a_file(folder):
    names = folder / 'names.txt'
    names.write_text('ground\na cat\ndog\n')
    found = build(folder, metainfo={'classes': str(names)})
    assert list(found.metainfo['classes']) == ['ground', 'a cat', 'dog']


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        ('gr\xf6und\ncat\ndog'.encode('latin-1'), 'is no UTF-8'),
        ('ground\ncat\ndog'.encode('utf-16'), 'is UTF-16'),
        (b'ground\n cat\ndog', "line 2 is ' cat'"),
        (b'ground\n\ndog', "line 2 is ''"),
        (b'', 'is empty'),
    ],
)
def test_a_file_of_classes_that_is_not_plain_is_refused(folder, data, message):
    names = folder / 'names.txt'
    names.write_bytes(data)
    text = refused(folder, metainfo={'classes': str(names)})
    assert f'class list {names}' in text
    assert message in text


def test_a_byte_order_mark_is_no_part_of_a_class(folder):
    names = folder / 'names.txt'
    names.write_text('ground\ncat\ndog', encoding='utf-8-sig')
    found = build(folder, metainfo={'classes': str(names)})
    assert found.metainfo['classes'][0] == 'ground'


def test_a_list_of_images_is_read(folder):
    (folder / 'list.txt').write_text('3\n1\n')
    found = build(folder, ann_file='list.txt')
    assert [found.get_data_info(i)['img_path'][-5:] for i in range(2)] == [
        '3.jpg',
        '1.jpg',
    ]


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        ('1\n2'.encode('utf-16'), 'is UTF-16'),
        (b'\xef\xbb\xbf1\n2', 'byte order mark'),
        (b'1 \n2', "line 1 is '1 '"),
        (b'', 'is empty'),
        (None, 'does not exist'),
    ],
)
def test_a_list_of_which_the_host_reads_other_names_is_refused(
    folder, data, message
):
    if data is not None:
        (folder / 'list.txt').write_bytes(data)
    assert message in refused(folder, ann_file='list.txt')


def test_a_listed_image_that_is_a_pipe_stops_no_check(folder):
    (folder / 'list.txt').write_text('1\n2\n')
    dataset = build(folder, ann_file='list.txt')
    path = folder / 'images' / '1.jpg'
    path.unlink()
    os.mkfifo(path)
    found = check_all(dataset)
    assert found.number == 2
    (problem,) = found.problems
    assert 'is a pipe' in problem


def test_a_turned_image_that_no_sample_saw_is_said_once(folder, said):
    with without_samples():
        dataset = build(folder)
    for i in (1, 2):
        turn(folder / 'images' / f'{i}.jpg')
    dataset[0]
    assert not said.text
    dataset[1], dataset[2]
    assert said.text.count('EXIF orientation') == 1
    assert '1.jpg' in said.text
    dataset.strict = True
    with pytest.raises(DatasetLayoutError, match=r'2\.jpg'):
        dataset[2]


@pytest.mark.parametrize('strict', [False, True])
def test_a_full_check_says_what_looks_wrong_over_all(tmp_path, strict):
    root = write(tmp_path, 5, (0, 0, 1, 2))
    turn(root / 'images' / '4.jpg')
    with without_samples():
        dataset = build(root, reduce_zero_label=True, strict=strict)
    found = check_all(dataset)
    report = found.report('train')
    assert '1 of 5 images have an EXIF orientation' in report
    assert '50% of all pixels have id 0' in report
    assert 'every file is right' not in report
    assert bool(found.problems) is strict
