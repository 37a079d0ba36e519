from __future__ import annotations

import pytest

from mmscope.datasets import DatasetLayoutError
from mmscope.datasets.lists import read_class_list, read_image_list


def test_a_class_list_keeps_its_order_and_ignores_comments(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text('n03 dog\n\nn01\n')
    folders = ('n01', 'n02', 'n03')
    assert read_class_list(path, folders) == ('n03', 'n01')


@pytest.mark.parametrize(
    ('text', 'message'),
    [('', 'is empty'), ('a\nb\na\n', "names 'a' twice")],
)
def test_useless_class_lists_are_refused(tmp_path, text, message):
    path = tmp_path / 'classes.txt'
    path.write_text(text)
    with pytest.raises(DatasetLayoutError, match=message):
        read_class_list(path, 'ab')


def test_an_absent_class_list_is_named(tmp_path):
    with pytest.raises(DatasetLayoutError, match='classes.txt does not'):
        read_class_list(tmp_path / 'classes.txt', ())


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'is empty'),
        ('n01/0.JPEG 0\nn02/0.JPEG\n', "line 2: expected 'path label'"),
        ('n01/0.JPEG dog\n', 'line 1'),
        ('n01/none.JPEG 0\n', "none.JPEG', but"),
    ],
)
def test_useless_image_lists_are_refused(image_folder, text, message):
    path = image_folder / 'list.txt'
    path.write_text(text)
    with pytest.raises(DatasetLayoutError, match=message):
        read_image_list(path, image_folder / 'train')
    path.write_text('n01/0.JPEG 0\nn02/1.JPEG 1\n')
    rows = read_image_list(path, image_folder / 'train')
    assert rows == [('n01/0.JPEG', 0), ('n02/1.JPEG', 1)]


def test_names_with_blanks_are_not_cut(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_bytes('\ufeffgolf ball\r\nn01 tench, fish\r\n'.encode())
    folders = ('golf ball', 'n01', 'golf ', 'x, y')
    assert read_class_list(path, folders) == ('golf ball', 'n01')
    path.write_text('golf \nx, y\n')
    assert read_class_list(path, folders) == ('golf ', 'x, y')
    path.write_text('no such\n')
    assert read_class_list(path, folders) == ('no such',)


def test_a_line_that_means_two_folders_is_refused_without_a_tab(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text('golf ball\n')
    folders = ('golf', 'golf ball')
    with pytest.raises(DatasetLayoutError, match="line 1: 'golf ball' may"):
        read_class_list(path, folders)
    path.write_text('golf\tball\ngolf ball\t\n')
    assert read_class_list(path, folders) == folders


@pytest.mark.parametrize(
    ('data', 'shown'),
    [
        ('caf\xe9\n'.encode('latin-1'), 'no UTF-8: byte 3 in line 1'),
        ('a\nb\n'.encode('utf-16'), 'is UTF-16'),
        ('a\nb\n'.encode('utf-16-le'), 'byte 1 is 0'),
    ],
)
def test_no_encoding_is_guessed(tmp_path, data, shown):
    path = tmp_path / 'classes.txt'
    path.write_bytes(data)
    for read in (read_class_list, read_image_list):
        with pytest.raises(DatasetLayoutError, match=shown) as error:
            read(path, [])
        assert str(path) in str(error.value)


def test_an_image_list_takes_any_name_and_only_labels_in_range(tmp_path):
    names = ('a b.jpg', ' c.jpg', 'd, "e".jpg', 'f\u2028g.jpg')
    for name in names:
        (tmp_path / name).touch()
    path = tmp_path / 'list.txt'
    path.write_text(''.join(f'{name} 1\r\n' for name in names))
    rows = [(name, 1) for name in names]
    assert read_image_list(path, tmp_path) == rows
    with pytest.raises(DatasetLayoutError, match="1: label 1 of 'a b.jpg'"):
        read_image_list(path, tmp_path, num_classes=1)
    path.write_text('a b.jpg \u00b2\n')
    with pytest.raises(DatasetLayoutError, match=r'line 1: .* got'):
        read_image_list(path, tmp_path)
