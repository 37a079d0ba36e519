from __future__ import annotations

import copy
import json

import pytest
from builders.coco import annotation, content, write

from mmscope.datasets import DatasetLayoutError
from mmscope.datasets.coco_file import read_coco


def refused(path, test_mode=False):
    with pytest.raises(DatasetLayoutError) as error:
        read_coco(path, test_mode=test_mode)
    return str(error.value)


def test_a_good_file_is_given_as_it_is(tmp_path):
    wanted = content(annotation(1), annotation(7, image=1))
    path = write(tmp_path / 'a.json', wanted)
    assert read_coco(path) == read_coco(path, test_mode=True) == wanted


def test_a_missing_file_names_the_nearest_folder_and_all_ways_to_set_it(
    tmp_path,
):
    (tmp_path / 'coco' / 'train2017').mkdir(parents=True)
    message = refused(tmp_path / 'coco/annotations/instances_train2017.json')
    assert 'instances_train2017.json does not exist' in message
    assert f'{tmp_path / "coco"} holds train2017' in message
    for way in (
        'MMSCOPE_COCO',
        'MMSCOPE_BCCD',
        'train_dataloader.dataset.data_root=',
        'val_evaluator.ann_file=',
    ):
        assert way in message


def test_a_folder_is_no_file(tmp_path):
    assert 'is a folder' in refused(tmp_path)


@pytest.mark.parametrize('last', ['{"', '0.pn', 'tru', '"height": ', '}'])
def test_a_cut_file_is_said_to_end(tmp_path, last):
    text = json.dumps(content(annotation(1, area=True)))
    length = text.index(last) + len(last)
    message = refused(write(tmp_path / 'a.json', text[:length]))
    assert 'no valid JSON' in message
    assert 'line 1, column' in message
    assert f'of {length}' in message
    assert 'the file ends, as after an interrupted download' in message


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('', 'of 0'),
        ('{"images": [],\n oops}', "line 2, column 2 .* near '.*oops"),
        ('<!DOCTYPE html><title>404', "near '<!DOCTYPE"),
        ('version https://git-lfs.github.com/spec', "near 'version"),
    ],
)
def test_what_is_no_json_is_shown_where_it_breaks(tmp_path, text, shown):
    path = write(tmp_path / 'a.json', text)
    with pytest.raises(DatasetLayoutError, match=shown):
        read_coco(path)


def test_a_packed_file_is_known_by_its_first_bytes(tmp_path):
    path = tmp_path / 'a.json'
    path.write_bytes(b'\x1f\x8b\x08\x00\x80\x81\xff\xfe\xfa')
    assert "begins with b'\\x1f\\x8b" in refused(path)


CAPTION = {'id': 1, 'image_id': 0, 'caption': 'Two squares.'}
SEGMENTS = {'image_id': 0, 'file_name': '0.png', 'segments_info': []}
RESULT = {'image_id': 0, 'category_id': 1, 'bbox': [0, 0, 1, 1], 'score': 1.0}


def without(*sections, **others):
    return {k: v for k, v in content().items() if k not in sections} | others


@pytest.mark.parametrize(
    ('what', 'message'),
    [
        ([RESULT], 'it is a list of results'),
        ([1, 2, 3], 'it is a list of 3 entries'),
        (7, 'it holds a int alone'),
        ({}, 'lacks images and annotations and categories, it has nothing'),
        ({'foo': 1}, "it has 'foo'"),
        (without('categories', annotations=[CAPTION]), 'it holds captions'),
        (without(annotations=[SEGMENTS]), 'it holds panoptic segments'),
        (without('annotations'), 'it lacks annotations'),
        (without('annotations', 'categories'), 'it lists images alone'),
        (without('categories'), "lacks categories, it has 'images'"),
        (without(images={'0': 1}), 'images is of type dict'),
        (without(annotations=[1]), 'annotations is of type list or holds'),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, what, message):
    path = write(tmp_path / 'a.json', what)
    with pytest.raises(DatasetLayoutError, match=message) as error:
        read_coco(path)
    assert 'instances_train2017.json' in str(error.value)


def test_a_list_for_a_test_server_needs_no_annotations(tmp_path):
    path = write(tmp_path / 'a.json', without('annotations'))
    assert read_coco(path, test_mode=True)['annotations'] == []


@pytest.mark.parametrize(
    ('section', 'key', 'fix'),
    [
        ('annotations', 'bbox', 'Add it'),
        ('annotations', 'category_id', 'Add it'),
        ('annotations', 'area', 'width . height'),
        ('images', 'height', 'pixels of the image file'),
        ('categories', 'name', 'Add it'),
    ],
)
def test_a_missing_key_is_counted_with_an_example(tmp_path, section, key, fix):
    what = content(annotation(3), annotation(5))
    del what[section][1][key]
    path = write(tmp_path / 'a.json', what)
    number = what[section][1]['id']
    wanted = rf"1 of 2 {section} lack '{key}' \(id {number} has .*{fix}"
    with pytest.raises(DatasetLayoutError, match=wanted):
        read_coco(path)


def test_only_scores_need_to_know_crowds(tmp_path):
    what = content()
    del what['annotations'][0]['iscrowd']
    path = write(tmp_path / 'a.json', what)
    assert read_coco(path) == what
    assert "lack 'iscrowd'" in refused(path, test_mode=True)


@pytest.mark.parametrize(
    ('section', 'key', 'shown'),
    [
        ('images', 'id', '1 ids of images .*0'),
        ('annotations', 'id', '1 ids of annotations .*3'),
        ('categories', 'id', '1 ids of categories .*1'),
        ('categories', 'name', "1 names of categories .*'square'"),
    ],
)
def test_what_is_there_twice_is_refused(tmp_path, section, key, shown):
    what = content(annotation(3), annotation(5))
    first, second = what[section][:2]
    second[key] = copy.copy(first[key])
    path = write(tmp_path / 'a.json', what)
    with pytest.raises(DatasetLayoutError, match=shown):
        read_coco(path)
