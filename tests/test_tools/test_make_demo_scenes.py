from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmscope.datasets import check_ade20k, demo_writer
from mmscope.datasets.demo_writer import FOLDER, RECIPE_FILE, write_scenes
from mmscope.datasets.scene_canvas import CLASS_IDS

from .conftest import load_tool

TINY = {'train': 1, 'val': 1, 'height': 32, 'width': 32}


@pytest.fixture(scope='module')
def tool():
    return load_tool('dataset_converters/make_demo_scenes.py')


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return write_scenes(
        tmp_path_factory.mktemp('ade'), train=40, val=3, height=96, width=128
    )


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def read_masks(root, split='training'):
    return [
        np.asarray(Image.open(path))
        for path in sorted((root / 'annotations' / split).glob('*.png'))
    ]


def test_layout_is_exactly_that_of_ade20k(scenes):
    assert scenes.name == 'ADEChallengeData2016'
    for split, prefix, count in (
        ('training', 'ADE_train', 40),
        ('validation', 'ADE_val', 3),
    ):
        stems = [f'{prefix}_{i:08d}' for i in range(1, count + 1)]
        for kind, suffix in (('images', '.jpg'), ('annotations', '.png')):
            files = sorted(p.name for p in (scenes / kind / split).iterdir())
            assert files == [stem + suffix for stem in stems]
        paths = (f'images/{split}', f'annotations/{split}')
        assert check_ade20k(scenes, *paths) == count


def test_masks_are_8_bit_ids_of_the_picture_size(scenes):
    path = scenes / 'annotations/training/ADE_train_00000001.png'
    assert Image.open(path).mode == 'L'
    assert Image.open(path).size == (128, 96)
    seen = np.unique(np.concatenate([m.ravel() for m in read_masks(scenes)]))
    assert set(seen) <= set(CLASS_IDS.values())
    # Other (0) and nearly every class occur in forty scenes.
    assert 0 in seen
    assert len(seen) >= len(CLASS_IDS) - 2


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    sizes = {'train': 3, 'val': 1, 'height': 48, 'width': 64}
    first = write_scenes(tmp_path / 'a', **sizes)
    again = write_scenes(tmp_path / 'b', **sizes)
    other = write_scenes(tmp_path / 'c', **sizes, seed=1)
    assert digests(first) == digests(again)
    name = 'annotations/training/ADE_train_00000001.png'
    assert digests(first)[name] != digests(other)[name]


def test_a_larger_set_begins_with_the_smaller_one(tmp_path):
    sizes = {'val': 1, 'height': 48, 'width': 64}
    small = write_scenes(tmp_path / 'a', train=2, **sizes)
    large = write_scenes(tmp_path / 'b', train=4, **sizes)
    for mask, same in zip(read_masks(small), read_masks(large), strict=False):
        np.testing.assert_array_equal(mask, same)


def test_cluttered_scenes_have_many_more_class_borders(tmp_path):
    def borders(share):
        root = write_scenes(
            tmp_path / str(share), train=12, val=1, cluttered=share
        )
        masks = np.stack(read_masks(root))
        return (masks[:, :, 1:] != masks[:, :, :-1]).mean()

    assert borders(1.0) > 3 * borders(0.0)


def test_colour_tells_classes_apart_but_not_alone(scenes):
    images = sorted((scenes / 'images/training').glob('*.jpg'))
    pixels = np.concatenate(
        [np.asarray(Image.open(p)).reshape(-1, 3) for p in images]
    )
    ids = np.concatenate([mask.ravel() for mask in read_masks(scenes)])
    present = np.unique(ids)
    means = np.stack([pixels[ids == i].mean(0) for i in present])
    nearest = ((pixels[::37, None] - means) ** 2).sum(-1).argmin(1)
    hits = (present[nearest] == ids[::37]).mean()
    prior = np.bincount(ids).max() / ids.size
    assert prior + 0.1 < hits < 0.9


def test_a_second_call_keeps_and_a_new_recipe_replaces(tmp_path):
    sizes = {'train': 1, 'val': 1, 'height': 32, 'width': 32}
    root = write_scenes(tmp_path, **sizes)
    before = (root / RECIPE_FILE).stat().st_mtime_ns
    assert write_scenes(tmp_path, **sizes) == root
    assert (root / RECIPE_FILE).stat().st_mtime_ns == before
    write_scenes(tmp_path, **{**sizes, 'train': 2})
    assert len(read_masks(root)) == 2
    # What was lost is written again.
    next(root.glob('images/training/*.jpg')).unlink()
    write_scenes(tmp_path, **{**sizes, 'train': 2})
    assert len(list(root.glob('images/training/*.jpg'))) == 2


def test_files_of_others_among_ours_are_never_deleted(tmp_path):
    sizes = {'train': 1, 'val': 1, 'height': 32, 'width': 32}
    mine = write_scenes(tmp_path, **sizes) / 'images/training/mine.jpg'
    mine.touch()
    with pytest.raises(FileExistsError, match=r'holds .*mine\.jpg, which'):
        write_scenes(tmp_path, **{**sizes, 'train': 2})
    assert mine.is_file()


def test_a_foreign_data_set_is_never_touched(tool, tmp_path):
    real = tmp_path / 'ADEChallengeData2016' / 'images'
    real.mkdir(parents=True)
    (real / 'mine.jpg').touch()
    with pytest.raises(FileExistsError, match='not written by this tool'):
        write_scenes(tmp_path, train=1, val=1)
    with pytest.raises(SystemExit, match='error: .*not written by'):
        tool.main([str(tmp_path)])
    assert (real / 'mine.jpg').is_file()


def test_a_writer_killed_while_it_replaces_leaves_no_stranger(
    tmp_path, monkeypatch
):
    remove = shutil.rmtree

    def killed(folder, **options):
        if (recipe := Path(folder) / RECIPE_FILE).exists():
            recipe.unlink()
            raise KeyboardInterrupt
        remove(folder, **options)

    write_scenes(tmp_path, **TINY)
    monkeypatch.setattr(demo_writer.shutil, 'rmtree', killed)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path, **TINY, seed=1)
    monkeypatch.undo()
    root = write_scenes(tmp_path, **TINY, seed=2)
    assert json.loads((root / RECIPE_FILE).read_text())['seed'] == 2


def test_a_writer_that_fails_leaves_nothing_half(tmp_path, monkeypatch):
    def full(*args):
        raise OSError('No space left on device')

    monkeypatch.setattr(demo_writer, 'render_scene', full)
    with pytest.raises(OSError, match='No space'):
        write_scenes(tmp_path, **TINY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('seed', [0, 1])
def test_a_second_writer_disturbs_nobody(tmp_path, monkeypatch, seed):
    """The first one is in the middle of it, and both have written before."""
    own, parent = os.getpid(), os.getppid()
    render, calls = demo_writer.render_scene, []

    def meanwhile(*args):
        calls.append(args)
        if len(calls) == 1:
            monkeypatch.setattr(demo_writer.os, 'getpid', lambda: parent)
            write_scenes(tmp_path, **TINY, seed=seed)
            monkeypatch.setattr(demo_writer.os, 'getpid', lambda: own)
        return render(*args)

    write_scenes(tmp_path, **TINY, seed=7)
    monkeypatch.setattr(demo_writer, 'render_scene', meanwhile)
    root = write_scenes(tmp_path, **TINY)
    assert json.loads((root / RECIPE_FILE).read_text())['seed'] == 0
    expected = write_scenes(tmp_path / 'alone', **TINY)
    assert digests(root) == digests(expected)
    assert {path.name for path in tmp_path.iterdir()} == {root.name, 'alone'}


def test_one_that_is_quicker_at_the_end_is_replaced(tmp_path, monkeypatch):
    rename = Path.rename

    def meanwhile(path, new):
        if path.name.endswith('.part'):
            monkeypatch.setattr(Path, 'rename', rename)
            write_scenes(tmp_path / 'other', **TINY, seed=1).rename(new)
        return rename(path, new)

    monkeypatch.setattr(Path, 'rename', meanwhile)
    root = write_scenes(tmp_path, **TINY)
    assert json.loads((root / RECIPE_FILE).read_text())['seed'] == 0


def test_what_dead_writers_left_is_removed_and_no_more(tmp_path):
    dead = subprocess.Popen(['true'])
    dead.wait()
    names = ['', f'.{dead.pid}', f'.{os.getppid()}']
    left = [tmp_path / f'.{FOLDER}{name}.part' for name in names]
    left += [tmp_path / f'.{FOLDER}.{dead.pid}.old', tmp_path / '.mine.part']
    for folder in left:
        (folder / 'images').mkdir(parents=True)
    write_scenes(tmp_path, **TINY)
    assert [path.exists() for path in left] == [False] * 2 + [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    'bad', [['--train', '0'], ['--cluttered', '1.5'], ['--width', '-4']]
)
def test_bad_sizes_are_refused(tool, tmp_path, bad, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args([str(tmp_path), *bad])
    assert bad[0] in capsys.readouterr().err
