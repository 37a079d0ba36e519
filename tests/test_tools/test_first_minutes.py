"""The first minutes are timed by what a newcomer types, in any version."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from builders.processes import is_gone
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


# Commands of the set-up have sessions of their own, which it ends itself.
FAMILY = """
sleep 60 & near=$!
setsid sleep 60 & far=$!
trap 'kill $far; exit 1' TERM
echo $$ $near $far > pids
echo ready
wait
"""


def test_a_command_ends_with_all_it_started(tmp_path, monkeypatch):
    def stop(stage):
        raise KeyboardInterrupt

    clock = first_minutes.Clock(tmp_path, dry_run=False)
    monkeypatch.setattr(clock, 'note', stop)
    with pytest.raises(KeyboardInterrupt):
        clock.run('end', 'sh', '-c', FAMILY, marks={'begin': 'ready'})
    for pid in map(int, (tmp_path / 'pids').read_text().split()):
        assert is_gone(pid)


def test_a_command_that_does_not_listen_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(first_minutes, 'PATIENCE_S', 0.1)
    words = ['sh', '-c', "trap '' TERM; echo ready; sleep 60"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout.readline() == 'ready\n'
        first_minutes.end_group(process)
    assert process.returncode == -signal.SIGKILL


def test_a_tool_that_is_terminated_leaves_no_folder(run, monkeypatch, capsys):
    folders = []

    def stop(clock, commit, python):
        folders.append(clock.folder)
        assert clock.folder.is_dir()
        # Otherwise the signal would end the tests.
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(first_minutes, 'time_clone', stop)
    with pytest.raises(SystemExit) as ended:
        run('is ready', ':')
    assert ended.value.code == 143
    assert capsys.readouterr().err.startswith('stopped by SIGTERM')
    assert not folders[0].exists()


@pytest.mark.parametrize('name', ['minutes.json', 'minutes.md'])
def test_results_that_cannot_be_written_leave_those_of_before(
    run, tmp_path, monkeypatch, name
):
    def full(path, *args, **options):
        if name in path.name:
            with path.open('wb') as file:
                file.write(b'half')
            raise OSError('No space left on device')
        return write(path, *args, **options)

    run('is ready', ':')
    before = (tmp_path / name).read_text()
    write = Path.write_bytes
    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(SystemExit, match='No space left'):
        run('was up to date', ':')
    assert (tmp_path / name).read_text() == before


def test_the_page_is_what_its_file_says():
    file = first_minutes.OUT
    if not file.is_file():
        pytest.skip('nothing was measured yet')
    page = first_minutes.page(json.loads(file.read_text()))
    assert file.with_suffix('.md').read_text() == page
