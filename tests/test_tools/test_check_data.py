"""`mmscope doctor --data`: every file of every split."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from builders.tools import load_tool
from PIL import Image

pytest.importorskip('mmseg.models')

CONFIG = 'ade20k/mambascope_ti_upernet.py'


@pytest.fixture
def copied(scenes, tmp_path, monkeypatch):
    root = shutil.copytree(scenes, tmp_path / scenes.name)
    monkeypatch.setenv('MMSCOPE_ADE20K', str(root))
    return root


def doctor(capsys, *options):
    try:
        load_tool('collect_env').main(['--data', CONFIG, *options])
        status = 0
    except SystemExit as error:
        status = error.code
    lines = capsys.readouterr().out.splitlines()
    # The logger keeps the stream that it was made with.
    return status, '\n'.join(line for line in lines if ' - ' not in line)


def test_good_data_is_said_to_be_right(copied, capsys):
    status, text = doctor(capsys)
    assert status == 0
    assert text.splitlines() == [
        'train: 9 entries, every file is right',
        'val, test: 5 entries, every file is right',
    ]


def test_what_is_not_right_is_counted_in_each_split(copied, capsys):
    images = sorted((copied / 'images' / 'training').iterdir())
    for path in images[1:6]:
        path.write_bytes(path.read_bytes()[:-300])
    status, text = doctor(capsys)
    assert status == 1
    train, *rest = text.splitlines()
    assert train.startswith('train: 5 of 9 entries are not right')
    assert sum(line.startswith('- image ') for line in rest) == 3
    assert rest[-1] == 'val, test: 5 entries, every file is right'


def test_labels_out_of_range_are_found_wherever_they_are(copied, capsys):
    masks = sorted((copied / 'annotations' / 'training').iterdir())
    Image.fromarray(np.full((72, 96), 200, np.uint8)).save(masks[4])
    status, text = doctor(capsys)
    assert status == 1
    assert 'train: 1 of 9' in text
    assert 'holds the value 200' in text


def test_a_split_that_cannot_be_built_does_not_hide_the_others(copied, capsys):
    (mask, *_) = sorted((copied / 'annotations' / 'training').iterdir())
    mask.unlink()
    status, text = doctor(capsys)
    assert status == 1
    assert '1 images have no annotation' in text
    assert 'val, test: 5 entries, every file is right' in text


def test_a_config_that_is_not_there_is_named(capsys):
    with pytest.raises(SystemExit, match='none.py'):
        load_tool('collect_env').main(['--data', 'none.py'])
