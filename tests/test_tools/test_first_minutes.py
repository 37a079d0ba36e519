"""The first minutes are timed by what a newcomer types, in any version."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from builders.tools import load_tool

from mmscope.errors import UserError

first_minutes = load_tool('misc/first_minutes.py')

# Stands for every Python, and for the command of a wheel.
PYTHON = """#!/bin/sh
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; {command};;
  "-m pip wheel "*) for last; do :; done; touch "$last/../mmscope-1.whl";;
  "-m pip install "*) test ! -e "$XDG_CACHE_HOME" && test -z "$PYTHONPATH";;
esac
"""
MAKEFILE = """
demo:
\tmkdir -p .venv-onedl/bin $(XDG_CACHE_HOME)
\tcp $(PYTHON) .venv-onedl/bin/python
\techo 'onedl environment /a/folder/.venv-onedl {ready} (3 s)'
\techo 'pictures: first_look.png'
\techo '  step   50 of 150: loss  1.000'
\techo '[  99 s] evaluating every threshold on 40 scenes'
\techo 'pictures:   work_dirs/demo/pictures'
"""


def repository(folder, ready):
    """A repository of one commit, whose `make demo` says what ours says."""
    folder.mkdir()
    (folder / 'Makefile').write_text(MAKEFILE.format(ready=ready))
    name = ('-c', 'user.name=x', '-c', 'user.email=x@localhost')
    for words in (('init', '-q'), ('add', '.'), (*name, 'commit', '-qmx')):
        subprocess.run(['git', *words], cwd=folder, check=True)


@pytest.fixture
def run(tmp_path, monkeypatch):
    if not (shutil.which('git') and shutil.which('make')):
        pytest.skip('needs git and make')
    monkeypatch.setenv('PYTHONPATH', '/somewhere')
    file = tmp_path / 'minutes.json'

    def run(ready, command, *options):
        root = tmp_path / ready.replace(' ', '_')
        repository(root, ready)
        monkeypatch.setattr(first_minutes, 'ROOT', root)
        python = tmp_path / 'python'
        python.write_text(PYTHON.format(command=command))
        python.chmod(0o755)
        first_minutes.main(
            ['--out', str(file), '--python', str(python), *options]
        )
        return json.loads(file.read_text()) if file.exists() else None

    return run


def test_each_first_result_has_its_time_and_its_column(run, tmp_path):
    (before,) = run('is ready', ':')
    assert 'wheel picture' not in before['seconds']
    _, after = run('was up to date', 'cp "$0" "$3/bin/mmscope"')
    seconds = after['seconds']
    assert set(seconds) == set(first_minutes.STAGES)
    whole = [key for key in first_minutes.STAGES if 'wheel' not in key]
    assert [seconds[key] for key in whole] == sorted(
        seconds[key] for key in whole
    )
    page = (tmp_path / 'minutes.md').read_text()
    assert before['commit'] in page
    (last,) = [
        line for line in page.splitlines() if line.startswith('| the whole')
    ]
    assert len(last.split('|')) == 5
    assert f'--commit {before["commit"]} --commit {after["commit"]}' in page
    assert page == first_minutes.page([before, after])
    # Markdown ends a table at an empty line.
    assert '|\n\n-: ' in page


def test_what_was_timed_before_a_failure_is_kept(run, tmp_path):
    (found,) = run('is ready', 'exit 3')
    assert 'demo' in found['seconds']
    assert 'wheel' not in found['seconds']
    assert found['failed'].endswith(' -m venv env failed')
    assert found['failed'] in (tmp_path / 'minutes.md').read_text()


def test_a_dry_run_names_every_command_and_runs_none(run, capsys, monkeypatch):
    monkeypatch.setattr(
        first_minutes.subprocess, 'Popen', PopenOnlyForGit(subprocess.Popen)
    )
    assert run('is ready', ':', '--dry-run') is None
    said = capsys.readouterr().out
    for part in ('git clone', 'make demo', 'venv', '.whl[onedl]', 'mmscope'):
        assert part in said


class PopenOnlyForGit:
    """Refuses whatever is not a question to git."""

    def __init__(self, actual):
        self.actual = actual

    def __call__(self, words, *args, **options):
        assert words[0] == 'git'
        assert words[1] not in ('clone', 'checkout')
        return self.actual(words, *args, **options)


def test_a_failure_shows_the_end_of_what_was_said(tmp_path):
    clock = first_minutes.Clock(tmp_path, dry_run=False)
    command = 'echo no space left; exit 3'
    with pytest.raises(UserError, match=r'(?s)no space left.*failed'):
        clock.run('stage', 'sh', '-c', command)
    assert clock.seconds == {}


def test_the_page_is_what_its_file_says():
    file = first_minutes.OUT
    if not file.is_file():
        pytest.skip('nothing was measured yet')
    page = first_minutes.page(json.loads(file.read_text()))
    assert file.with_suffix('.md').read_text() == page
