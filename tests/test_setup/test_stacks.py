"""Choice of the interpreter, requirement files, compiler, lock."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from setup_env import stacks
from setup_env.stacks import (
    STACKS,
    SetupError,
    choose_python,
    distribution_name,
    foreign_distributions,
    host_names,
    locked,
    read_requirements,
    require_compiler,
)

ROOT = Path(__file__).resolve().parents[2]


def fake_python(folder, name, version):
    """Write a program that answers like an interpreter of a version."""
    path = folder / name
    path.write_text(f'#!/bin/sh\necho {version}\n')
    path.chmod(0o755)
    return str(path)


def test_python_312_is_refused_for_openmmlab_with_the_reason(tmp_path):
    python = fake_python(tmp_path, 'python3.12', '3 12')
    process = subprocess.run(
        [sys.executable, '-m', 'setup_env', '--venv', str(tmp_path / 'v')],
        env={
            **os.environ,
            'PYTHONPATH': str(ROOT / 'tools'),
            'STACK': 'openmmlab',
            'PYTHON': python,
        },
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert 'torch 2.1.2' in process.stderr
    assert 'is 3.12' in process.stderr
    assert not (tmp_path / 'v').exists()


def test_python_312_is_accepted_for_onedl(tmp_path):
    python = fake_python(tmp_path, 'python3.12', '3 12')
    assert choose_python(STACKS['onedl'], python) == python


def test_a_python_that_does_not_run_is_passed_over(tmp_path, monkeypatch):
    broken = tmp_path / 'python3.11'
    broken.write_text('#!/bin/sh\nexit 127\n')
    broken.chmod(0o755)
    fake_python(tmp_path, 'python3.12', '3 12')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    assert choose_python(STACKS['onedl'], None) == 'python3.12'


def test_unsupported_python_names_what_was_found(tmp_path):
    python = fake_python(tmp_path, 'python', '3 9')
    with pytest.raises(SetupError, match=r'3\.10, 3\.11, 3\.12.* is 3\.9'):
        choose_python(STACKS['onedl'], python)


def test_unknown_stack_is_named(tmp_path):
    process = subprocess.run(
        [sys.executable, '-m', 'setup_env', '--stack', 'mmlab'],
        env={**os.environ, 'PYTHONPATH': str(ROOT / 'tools')},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert "'mmlab'" in process.stderr
    assert 'STACK=openmmlab' in process.stderr


@pytest.mark.parametrize('name', STACKS)
def test_requirement_files_never_mix_stacks(name):
    own = host_names(STACKS[name])
    assert len(own) == 5
    assert all(host.startswith('onedl-') == (name == 'onedl') for host in own)
    shared = read_requirements(STACKS[name].build_file)
    shared += read_requirements(ROOT / 'requirements/dev.txt')
    shared += read_requirements(ROOT / 'requirements/cuda.txt')
    everybody = set().union(*map(host_names, STACKS.values()))
    assert not everybody & set(map(distribution_name, shared))


@pytest.mark.parametrize('name', STACKS)
def test_every_host_is_pinned(name):
    hosts = host_names(STACKS[name])
    for requirement in read_requirements(STACKS[name].hosts_file):
        if distribution_name(requirement) in hosts:
            assert '==' in requirement


def test_packages_of_the_other_stack_are_found():
    installed = ['torch', 'onedl_mmcv', 'mmcv', 'mmdet', 'onedl-mmengine']
    assert foreign_distributions(STACKS['onedl'], installed) == [
        'mmcv',
        'mmdet',
    ]
    assert foreign_distributions(STACKS['openmmlab'], installed) == [
        'onedl_mmcv',
        'onedl-mmengine',
    ]


def test_missing_compiler_says_what_to_install(monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(SetupError, match=r'no-such-compiler.*apt install g\+'):
        require_compiler(sys.executable)


def test_missing_python_headers_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', 'sh')
    python = fake_python(tmp_path, 'python', str(tmp_path))
    with pytest.raises(SetupError, match='Python.h is missing.*python3-dev'):
        require_compiler(python)


def test_compile_jobs_leave_memory_for_each(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(64)))
    pages = {'SC_PAGE_SIZE': 4096, 'SC_PHYS_PAGES': int(8e9 / 4096)}
    monkeypatch.setattr(os, 'sysconf', pages.get)
    assert stacks.compile_jobs() == 4


def test_a_second_set_up_waits_for_the_first(tmp_path, capsys):
    order = []

    def second():
        with locked(tmp_path / 'lock'):
            order.append('second')

    thread = threading.Thread(target=second)
    with locked(tmp_path / 'lock'):
        thread.start()
        thread.join(timeout=0.3)
        order.append('first')
    thread.join(timeout=5)
    assert order == ['first', 'second']
    assert 'waiting for another set-up' in capsys.readouterr().out
