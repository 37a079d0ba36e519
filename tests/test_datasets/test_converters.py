"""The tools that make class folders, as users call them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from builders.tools import load_tool


def hold_out(*args):
    load_tool('hold_out').main([*map(str, args)])


def sort_by_class(*args):
    load_tool('sort_by_class').main([*map(str, args)])


def tree(folder):
    """Every file below, relative."""
    found = (p for p in folder.rglob('*') if not p.is_dir())
    return sorted(str(p.relative_to(folder)) for p in found)


@pytest.fixture
def train(tmp_path):
    """Two classes of three and four images."""
    for name, count in (('ant', 3), ('bee', 4)):
        (tmp_path / 'train' / name).mkdir(parents=True)
        for index in range(count):
            (tmp_path / 'train' / name / f'{index}.jpg').write_text(name)
    return tmp_path / 'train'


@pytest.fixture
def flat(tmp_path):
    """A flat folder as ImageNet's validation archive leaves it."""
    folder = tmp_path / 'val'
    folder.mkdir()
    for index in range(3):
        (folder / f'ILSVRC2012_val_{index}.JPEG').touch()
    (folder / 'notes.md').touch()
    return folder


def test_the_last_images_of_every_class_are_moved(train, tmp_path, capsys):
    hold_out(train, tmp_path / 'val', '--count', 2)
    assert tree(tmp_path / 'val') == [
        'ant/1.jpg',
        'ant/2.jpg',
        'bee/2.jpg',
        'bee/3.jpg',
    ]
    assert tree(train) == ['ant/0.jpg', 'bee/0.jpg', 'bee/1.jpg']
    assert '4 images moved' in capsys.readouterr().out


def test_a_second_run_is_refused_and_changes_nothing(train, tmp_path):
    hold_out(train, tmp_path / 'val', '--count', 1)
    before = tree(tmp_path)
    with pytest.raises(SystemExit, match='may have been made before'):
        hold_out(train, tmp_path / 'val', '--count', 1)
    assert tree(tmp_path) == before


@pytest.mark.parametrize('count', [0, 3, -1])
def test_a_class_with_too_few_images_changes_nothing(train, tmp_path, count):
    with pytest.raises(SystemExit, match='class ant has 3 images'):
        hold_out(train, tmp_path / 'val', '--count', count)
    assert not (tmp_path / 'val').exists()
    assert len(tree(train)) == 7


def test_links_make_both_splits_and_leave_the_source(train, tmp_path):
    new = tmp_path / 'new'
    hold_out(train, new / 'val', '--count', 1, '--link-train', new / 'train')
    assert len(tree(train)) == 7
    assert tree(new / 'train') == [
        'ant/0.jpg',
        'ant/1.jpg',
        'bee/0.jpg',
        'bee/1.jpg',
        'bee/2.jpg',
    ]
    assert tree(new / 'val') == ['ant/2.jpg', 'bee/3.jpg']
    assert (new / 'val/ant/2.jpg').is_symlink()
    assert (new / 'val/ant/2.jpg').read_text() == 'ant'


@pytest.mark.parametrize('link', [False, True])
@pytest.mark.parametrize('failure', [KeyboardInterrupt, OSError('disk full')])
def test_an_interrupted_run_leaves_everything_as_it_was(
    train, tmp_path, monkeypatch, link, failure
):
    new = tmp_path / 'new'
    options = ('--link-train', new / 'train') if link else ()
    tool, calls = load_tool('hold_out'), []
    owner, name = (tool, '_link') if link else (tool.shutil, 'move')
    place = getattr(owner, name)

    def interrupted(image, target):
        calls.append(target)
        # Links of VAL come after five of TRAIN.
        if len(calls) == (7 if link else 2):
            target.write_text('half a cop')
            raise failure
        place(image, target)

    before = tree(tmp_path)
    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        hold_out(train, new / 'val', '--count', 1, *options)
    assert tree(tmp_path) == before
    assert not new.exists()
    assert (train / 'bee/3.jpg').read_text() == 'bee'
    monkeypatch.undo()
    hold_out(train, new / 'val', '--count', 1, *options)
    assert tree(new / 'val') == ['ant/2.jpg', 'bee/3.jpg']


@pytest.mark.parametrize('second', [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_break_the_undoing_off(
    train, tmp_path, monkeypatch, capsys, second
):
    move, calls = shutil.move, []

    def interrupted(image, target):
        calls.append(target)
        if len(calls) == 3:
            raise KeyboardInterrupt
        if len(calls) > 3:
            os.kill(os.getpid(), second)
        move(image, target)

    def handlers():
        return [*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))]

    before = tree(tmp_path), handlers()
    monkeypatch.setattr(load_tool('hold_out').shutil, 'move', interrupted)
    with pytest.raises(SystemExit) as ended:
        hold_out(train, tmp_path / 'val', '--count', 2)
    assert (tree(tmp_path), handlers()) == before
    assert ended.value.code == 130
    assert 'every image is where it was' in capsys.readouterr().err
    assert len(calls) == 5


def test_a_split_is_undone_in_any_thread(train, tmp_path, monkeypatch):
    tool, move, calls = load_tool('hold_out'), shutil.move, []

    def failing(image, target):
        calls.append(target)
        if len(calls) == 3:
            raise OSError('disk full')
        move(image, target)

    before = tree(tmp_path)
    monkeypatch.setattr(tool.shutil, 'move', failing)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(tool.hold_out, train, tmp_path / 'val', 2)
    with pytest.raises(OSError, match='disk full'):
        done.result()
    assert tree(tmp_path) == before


SLOW = """
import shutil, sys, time
from mmscope.cli.hold_out import main

move = shutil.move

def slow(image, new):
    move(image, new)
    shutil.move = move
    print('moved', flush=True)
    time.sleep(60)

shutil.move = slow
main(sys.argv[1:])
"""


def test_a_terminated_run_leaves_everything_as_it_was(train, tmp_path):
    before = tree(tmp_path)
    job = subprocess.Popen(
        [sys.executable, '-c', SLOW, train, tmp_path / 'val', '--count', '2'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.stdout.readline() == 'moved\n'
    assert tree(tmp_path) != before
    job.terminate()
    _, said = job.communicate(timeout=60)
    assert (job.returncode, said) == (
        143,
        'stopped by SIGTERM: every image is where it was\n',
    )
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ('val', 'options'),
    [
        ('val', ['--link-train', 'val']),
        ('new/val', ['--link-train', 'new']),
        ('new', ['--link-train', 'val/../new/train']),
        ('train/val', []),
        ('val', ['--link-train', 'train/links']),
    ],
)
def test_a_split_within_another_is_refused(
    train, tmp_path, monkeypatch, val, options
):
    before = tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match='folders beside each other'):
        hold_out('train', val, '--count', 1, *options)
    assert tree(tmp_path) == before


def test_a_flat_source_is_named(tmp_path):
    (tmp_path / 'a.jpg').touch()
    with pytest.raises(SystemExit, match='holds 1 images directly'):
        hold_out(tmp_path, tmp_path / 'val', '--count', 1)


@pytest.mark.parametrize(
    'text',
    [
        'ILSVRC2012_val_0.JPEG n02\nILSVRC2012_val_1.JPEG n01\n'
        'ILSVRC2012_val_2.JPEG n02\nILSVRC2012_val_9.JPEG n01\n',
        'ImageId,PredictionString\nILSVRC2012_val_2,n02 85 1 2 3\n'
        'ILSVRC2012_val_0,n02 1 1 2 3 n02 7 8 9 9\nILSVRC2012_val_1,n01 4\n',
    ],
)
def test_images_are_sorted_by_either_kind_of_list(flat, tmp_path, text):
    (tmp_path / 'list').write_text(text)
    sort_by_class(flat, tmp_path / 'list')
    assert tree(flat) == [
        'n01/ILSVRC2012_val_1.JPEG',
        'n02/ILSVRC2012_val_0.JPEG',
        'n02/ILSVRC2012_val_2.JPEG',
        'notes.md',
    ]


def test_numbers_count_the_class_folders_of_train(flat, train, tmp_path):
    lines = (f'ILSVRC2012_val_{i}.JPEG {i % 2}' for i in range(3))
    (tmp_path / 'list').write_text('\n'.join(lines))
    with pytest.raises(SystemExit, match='--train FOLDER'):
        sort_by_class(flat, tmp_path / 'list')
    sort_by_class(flat, tmp_path / 'list', '--train', train)
    assert tree(flat)[:3] == [
        'ant/ILSVRC2012_val_0.JPEG',
        'ant/ILSVRC2012_val_2.JPEG',
        'bee/ILSVRC2012_val_1.JPEG',
    ]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('ILSVRC2012_val_0.JPEG n02\n', 'lacks 2 of 3 images'),
        ('490\n361\n171\n', 'line 1: expected .* order of their own'),
        (
            ''.join(f'ILSVRC2012_val_{i} 7\n' for i in range(3)),
            'up to class 7, .* has 2 class folders',
        ),
    ],
)
def test_lists_that_do_not_fit_change_nothing(
    flat, train, tmp_path, text, message
):
    (tmp_path / 'list').write_text(text)
    with pytest.raises(SystemExit, match=message):
        sort_by_class(flat, tmp_path / 'list', '--train', train)
    assert len(tree(flat)) == 4
    assert not any(path.is_dir() for path in flat.iterdir())


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('ILSVRC2012_val_0 golf ball\n', "line 1: .* got .*_0 golf ball'"),
        ('ILSVRC2012_val_0,a,b\n', 'line 1: .* need a TAB'),
        ('a.jpg x\na.jpg y\n', "line 2: 'a' is 'y' here and 'x' above"),
        ('a.jpg ../up\n', "class '../up' is no name of one folder"),
        ('a.jpg caf\udce9\n', 'is no UTF-8: byte 9'),
    ],
)
def test_lists_that_would_have_to_be_guessed_are_refused(
    flat, tmp_path, text, message
):
    (tmp_path / 'list').write_bytes(text.encode(errors='surrogateescape'))
    with pytest.raises(SystemExit, match=message):
        sort_by_class(flat, tmp_path / 'list')
    assert len(tree(flat)) == 4


def test_names_and_classes_with_blanks_need_a_tab(flat, tmp_path):
    (flat / 'a b.c.jpg').touch()
    lines = [f'ILSVRC2012_val_{i}.JPEG\tgolf ball\n' for i in range(3)]
    (tmp_path / 'list').write_text(''.join([*lines, 'a b.c\tn, 1\n']))
    sort_by_class(flat, tmp_path / 'list')
    assert tree(flat)[0] == 'golf ball/ILSVRC2012_val_0.JPEG'
    assert 'n, 1/a b.c.jpg' in tree(flat)


def test_absent_folders_and_lists_are_named(flat, tmp_path):
    with pytest.raises(SystemExit, match='none does not exist'):
        sort_by_class(tmp_path / 'none', tmp_path / 'list')
    with pytest.raises(SystemExit, match='list .* does not exist'):
        sort_by_class(flat, tmp_path / 'list')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SystemExit, match='no images to sort'):
        sort_by_class(tmp_path / 'empty', tmp_path / 'list')
