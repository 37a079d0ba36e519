"""A training goes on from its own checkpoints, whatever the note says."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from mmscope.runtime import latest_checkpoint


def save(path, content='weights'):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('data.pkl', content)
    return path


def trained(folder, *steps):
    """What a training leaves: checkpoints, and a note of the last one."""
    for step in steps:
        last = save(folder / f'iter_{step}.pth', str(folder))
    (folder / 'last_checkpoint').write_text(str(last))
    return str(last)


@pytest.mark.parametrize('absolute', [False, True])
def test_a_moved_folder_goes_on_from_its_own_files_where_its_name_is_reused(
    tmp_path, monkeypatch, absolute
):
    monkeypatch.chdir(tmp_path)
    work_dir = (tmp_path if absolute else Path()) / 'c'
    trained(work_dir, 100, 200)
    first = work_dir.rename(work_dir.with_name('c_first'))
    second = trained(work_dir, 200)
    assert latest_checkpoint(first) == str(first / 'iter_200.pth')
    assert latest_checkpoint(work_dir) == second


def test_a_copy_goes_on_from_its_own_file(tmp_path):
    trained(tmp_path / 'c', 100, 200)
    copy = shutil.copytree(tmp_path / 'c', tmp_path / 'copy')
    assert latest_checkpoint(copy) == str(copy / 'iter_200.pth')
    # Of the same name, too.
    other = shutil.copytree(tmp_path / 'c', tmp_path / 'other' / 'c')
    assert latest_checkpoint(other) == str(other / 'iter_200.pth')
    (other / 'iter_200.pth').unlink()
    assert latest_checkpoint(other) == str(other / 'iter_100.pth')


@pytest.mark.parametrize('kind', ['iter', 'epoch'])
def test_without_a_note_the_highest_step_counts_and_not_the_time(
    tmp_path, kind
):
    for age, step in enumerate((160000, 16000, 9)):
        path = save(tmp_path / f'{kind}_{step}.pth')
        os.utime(path, (100 + age, 100 + age))
    # What MMEngine publishes, and others rename, cannot be gone on from.
    save(tmp_path / f'{kind}_160000-0123abcd.pth')
    save(tmp_path / f'{kind}_170000_ema.pth')
    last = str(tmp_path / f'{kind}_160000.pth')
    assert latest_checkpoint(tmp_path) == last


def test_steps_and_epochs_are_not_compared(tmp_path):
    for age, name in enumerate(('iter_400', 'epoch_3')):
        os.utime(save(tmp_path / f'{name}.pth'), (100 + age, 100 + age))
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_3.pth')


@pytest.mark.parametrize(
    'note',
    [bytes(40), b'\xff\xfe\x80', b'x' * 5000, b'\n', b'/'],
    ids=['zeros', 'no UTF-8', 'long', 'empty', 'root'],
)
def test_a_damaged_note_is_none(tmp_path, note):
    (tmp_path / 'last_checkpoint').write_bytes(note)
    assert latest_checkpoint(tmp_path) is None
    last = save(tmp_path / 'iter_4.pth')
    assert latest_checkpoint(tmp_path) == str(last)


def test_a_sharded_checkpoint_is_a_folder(tmp_path):
    save(tmp_path / 'iter_4.pth')
    (tmp_path / 'iter_8.pth').mkdir()
    (tmp_path / 'last_checkpoint').write_text('/gone/iter_8.pth\n')
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'iter_8.pth')


def test_a_noted_path_elsewhere_is_of_a_folder_of_the_same_name(tmp_path):
    # CheckpointHook.out_dir: the work directory holds the note alone.
    elsewhere = save(tmp_path / 'out_dir' / 'c' / 'iter_8.pth')
    for name, expected in (('c', str(elsewhere)), ('copy', None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'last_checkpoint').write_text(str(elsewhere))
        assert latest_checkpoint(tmp_path / name) == expected
    # What is older and nearer does not go before it.
    near = save(tmp_path / 'c' / 'iter_2.pth')
    assert latest_checkpoint(tmp_path / 'c') == str(elsewhere)
    near.unlink()
    elsewhere.write_bytes(elsewhere.read_bytes()[:-10])
    assert latest_checkpoint(tmp_path / 'c') is None
