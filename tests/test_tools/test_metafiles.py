"""metafile.yml files say what the configs say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

from mmscope.cli.metafiles import FIELDS, describe, read_header
from mmscope.runtime.configs import config_names

ROOT = Path(__file__).parents[2]
CONFIGS = config_names()


@pytest.fixture(scope='module')
def entries():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    files = [ROOT / name for name in index['Import']]
    models = [
        m for f in files for m in yaml.safe_load(f.read_text())['Models']
    ]
    return {model['Name']: model for model in models}


def test_the_index_leads_to_every_config_once(entries):
    assert sorted(entries) == sorted(CONFIGS)
    for name, entry in entries.items():
        assert (ROOT / entry['Config']) == CONFIGS[name]


def test_each_entry_repeats_the_header_of_its_config(entries):
    for name, path in CONFIGS.items():
        header, said = read_header(path), entries[name]
        assert said['Summary'] == header['Summary'] != ''
        for field in FIELDS:
            assert said['Metadata'].get(field) == header.get(field), name


@pytest.mark.parametrize('name', ['demo/mambascope_nano', 'cifar10/vim_mini'])
def test_counts_are_those_of_the_model(name, entries):
    assert describe(name, CONFIGS[name]) == entries[name]


def test_a_header_goes_on_in_the_next_line(tmp_path):
    file = tmp_path / 'config.py'
    file.write_text(
        '"""A model,\nof two lines.\n\nHost:    mmseg\nCost:    an hour\n'
        '         or two\n\nA remark: not a field.\n"""\n'
    )
    assert read_header(file) == {
        'Summary': 'A model, of two lines.',
        'Host': 'mmseg',
        'Cost': 'an hour or two',
    }
