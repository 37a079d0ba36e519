from __future__ import annotations

import copy
import json
import os

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
    assert "(b'\\x1f\\x8b" in refused(path)


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


@pytest.mark.parametrize(
    ('section', 'change', 'shown'),
    [
        ('images', {'width': '64'}, "width is '64', expected int"),
        ('images', {'width': 0}, 'width is 0, expected int >= 1'),
        ('images', {'height': None}, 'height is None, expected int'),
        ('images', {'file_name': 5}, 'file_name is 5, expected str'),
        ('images', {'id': [1]}, 'id is [1], expected int | float | str'),
        ('categories', {'name': 7}, 'name is 7, expected str'),
        ('annotations', {'iscrowd': '0'}, "iscrowd is '0', expected"),
        ('annotations', {'iscrowd': 2**63}, 'iscrowd is 9223372036854775808'),
        ('annotations', {'iscrowd': 2}, 'iscrowd is 2, expected int <= 1'),
        ('annotations', {'ignore': -1}, 'ignore is -1, expected int >= 0'),
        ('annotations', {'category_id': {}}, 'category_id is {}, expected'),
        ('annotations', {'bbox': [1, 2, 3]}, 'bbox is [1, 2, 3], expected'),
        ('annotations', {'bbox': list('1234')}, "bbox[0] is '1', expected"),
        ('annotations', {'bbox': 5}, 'bbox is 5, expected array'),
        ('annotations', {'area': 'large'}, "area is 'large', expected float"),
        ('annotations', {'area': 10**400}, 'area is 1000'),
        ('annotations', {'segmentation': [1, 2]}, 'segmentation[0] is 1'),
        ('annotations', {'segmentation': 'x'}, "segmentation is 'x'"),
        (
            'annotations',
            {'segmentation': {'size': [48, 64], 'counts': [1, '2']}},
            "segmentation.counts[1] is '2', expected int",
        ),
        (
            'annotations',
            {'segmentation': {'size': [48, 64], 'counts': [-1]}},
            'segmentation.counts[0] is -1, expected int >= 0',
        ),
        (
            'annotations',
            {'segmentation': {'size': [48]}},
            'segmentation.size is [48], expected array of length >= 2',
        ),
    ],
)
def test_a_value_of_another_type_is_shown_with_what_was_expected(
    tmp_path, section, change, shown
):
    what = content(annotation(1), annotation(9), annotation(10))
    number = what[section][1]['id']
    what[section][1].update(change)
    message = refused(write(tmp_path / 'a.json', what), test_mode=True)
    number = change.get('id', number)
    assert f'1 of {len(what[section])} {section} are not as COCO' in message
    assert f'first id {number!r}: {shown}' in message


def test_nan_and_null_are_left_to_be_counted(tmp_path):
    boxes = [4, 4, None, float('nan')]
    what = content(annotation(1, bbox=boxes, area=float('inf')))
    read = read_coco(write(tmp_path / 'a.json', what))
    assert str(read['annotations'][0]['bbox']) == '[4, 4, None, nan]'


@pytest.mark.parametrize(
    ('encoding', 'shown'),
    [
        ('utf-16', 'is UTF-16'),
        ('utf-16-le', 'is no text: byte 1 is 0'),
        ('utf-32', 'is UTF-32'),
        ('latin-1', "is no UTF-8: byte 193 in line 1 is b'\\xe9'"),
    ],
)
def test_other_encodings_than_the_evaluator_reads_are_named(
    tmp_path, encoding, shown
):
    path = tmp_path / 'a.json'
    what = content(classes=('caf\xe9', 'flat'), num_images=2)
    text = json.dumps(what, ensure_ascii=False)
    path.write_bytes(text.encode(encoding))
    message = refused(path)
    shown = shown.replace('193', str(text.index('\xe9')))
    assert shown in message
    assert 'expected JSON in UTF-8' in message


def test_a_mark_of_utf8_is_refused_as_the_evaluator_does(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(content()), encoding='utf-8-sig')
    assert 'byte order mark' in refused(path)


@pytest.mark.parametrize('section', ['images', 'annotations', 'categories'])
def test_ids_are_all_text_or_all_numbers(tmp_path, section):
    """pycocotools sorts them."""
    what = content(annotation(1), annotation(2))
    what[section][0]['id'] = 'a'
    message = refused(write(tmp_path / 'a.json', what))
    assert f'1 of 2 ids of {section} are text, the others numbers' in message


def test_nesting_without_end_is_named(tmp_path):
    text = json.dumps(content())[:-1] + ', "info": ' + '[' * 10**5
    assert 'hundreds deep' in refused(write(tmp_path / 'a.json', text))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'a.json')
    assert 'a.json is a pipe' in refused(tmp_path / 'a.json')
    (tmp_path / 'b.json').symlink_to('nowhere')
    assert 'b.json is a broken link' in refused(tmp_path / 'b.json')
