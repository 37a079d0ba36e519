"""Choice of the interpreter, requirement files, compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from setup_env.stacks import (
    STACKS,
    SetupError,
    choose_python,
    plain_name,
    require_compiler,
)

ROOT = Path(__file__).resolve().parents[2]


def fake_python(folder, name, says):
    """Write a program that answers like an interpreter of a version."""
    path = folder / name
    path.write_text(f'#!/bin/sh\necho {says}\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ('options', 'messages'),
    [
        ({'STACK': 'mmlab'}, ["'mmlab'", 'STACK=openmmlab']),
        ({'STACK': 'openmmlab'}, ['torch 2.1.2', 'is 3.12']),
    ],
)
def test_set_up_refuses_an_unknown_stack_or_python(
    options, messages, tmp_path
):
    python = fake_python(tmp_path, 'python3.12', '3.12')
    own = {'PYTHONPATH': str(ROOT / 'tools'), 'VENV': str(tmp_path / 'v')}
    process = subprocess.run(
        [sys.executable, '-m', 'setup_env'],
        env={**os.environ, **own, 'PYTHON': python, **options},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert all(message in process.stderr for message in messages)
    assert not (tmp_path / 'v').exists()


def test_a_python_that_does_not_run_is_passed_over(tmp_path, monkeypatch):
    broken = tmp_path / 'python3.11'
    broken.write_text('#!/bin/sh\nexit 127\n')
    broken.chmod(0o755)
    fake_python(tmp_path, 'python3.12', '3.12')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    assert choose_python(STACKS['onedl'], None) == 'python3.12'


def test_unsupported_python_names_what_was_found(tmp_path):
    python = fake_python(tmp_path, 'python', '3.9')
    with pytest.raises(SetupError, match=r'3\.10, 3\.11, 3\.12: .* is 3\.9'):
        choose_python(STACKS['onedl'], python)


@pytest.mark.parametrize('name', STACKS)
def test_requirement_files_pin_one_stack_and_never_mix_two(name):
    stack = STACKS[name]
    assert len(stack.hosts) == 5
    for host in stack.hosts:
        assert host.startswith('onedl-') == (name == 'onedl')
        assert '==' in stack.requirements()[host]
    shared = [stack.file('build-')]
    shared += [ROOT / f'requirements/{part}.txt' for part in ('dev', 'cuda')]
    names = {
        plain_name(line)
        for path in shared
        for line in path.read_text().splitlines()
    }
    assert names.isdisjoint(h for s in STACKS.values() for h in s.hosts)


def test_missing_python_headers_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', 'sh')
    python = fake_python(tmp_path, 'python', str(tmp_path))
    with pytest.raises(SetupError, match=r'Python\.h.*python3-dev'):
        require_compiler(python)
