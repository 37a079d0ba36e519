from __future__ import annotations

import pytest
import torch

from mmscope.benchmark import setting
from mmscope.benchmark.setting import describe_setting, noise_note


@pytest.mark.parametrize(
    ('load', 'cores', 'noisy'),
    [(0.9, 2, False), (1.1, 2, True), (1.1, 8, False), (0.6, None, True)],
)
def test_a_busy_machine_is_named(load, cores, noisy):
    note = noise_note({'load': load, 'cores': cores})
    assert note.startswith('NOISY MACHINE') == noisy


def test_the_setting_names_what_was_asked_for_and_what_can_run():
    setting = describe_setting('cpu', 'bfloat16', 'reference')
    assert setting['dtype'] == 'bfloat16'
    assert setting['backend'] == 'reference'
    assert 'reference' in setting['backends']
    assert setting['commit']


def test_a_copy_without_its_repository_or_git_has_no_name(
    tmp_path, monkeypatch
):
    assert setting.commit(tmp_path) == 'unknown'
    monkeypatch.setenv('PATH', str(tmp_path))
    assert setting.commit() == 'unknown'


def test_code_is_told_apart_by_its_files(tmp_path):
    (tmp_path / 'mmscope').mkdir()
    code = tmp_path / 'mmscope' / 'a.py'
    code.write_text('1')
    first = setting.source_hash(tmp_path)
    (tmp_path / 'mmscope' / 'notes.txt').write_text('x')
    assert setting.source_hash(tmp_path) == first
    code.write_text('2')
    assert setting.source_hash(tmp_path) != first


def test_a_run_may_be_told_its_commit():
    run = setting.describe_run(torch.device('cpu'), True, 'abc')
    assert (run['commit'], run['dry_run']) == ('abc', True)
    assert len(run['source']) == 12
