from __future__ import annotations

import os
import subprocess

import pytest

from .conftest import TOOLS

ARGS = {
    'dist_train.sh': ['CONFIG', '3'],
    'dist_test.sh': ['CONFIG', 'CKPT', '3'],
    'slurm_train.sh': ['PART', 'JOB', 'CONFIG'],
    'slurm_test.sh': ['PART', 'JOB', 'CONFIG', 'CKPT'],
}


def run(script, *args, **environ):
    return subprocess.run(
        [str(TOOLS / script), *args],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def srun(tmp_path):
    """A stand-in for Slurm's srun that prints its arguments."""
    fake = tmp_path / 'srun'
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    return f'{tmp_path}:{os.environ["PATH"]}'


@pytest.mark.parametrize('script', ARGS)
def test_too_few_arguments_show_the_usage(script):
    done = run(script, *ARGS[script][:-1])
    assert done.returncode == 2
    assert f'{script}' in done.stderr
    assert 'usage:' in done.stderr


@pytest.mark.parametrize('kind', ['train', 'test'])
def test_torchrun_gets_nodes_port_and_every_option(kind):
    script = f'dist_{kind}.sh'
    done = run(
        script,
        *ARGS[script],
        '--work-dir',
        'a b',
        PYTHON='echo',
        NNODES='2',
        NODE_RANK='1',
        MASTER_ADDR='host0',
        PORT='1234',
    )
    words = done.stdout.strip()
    for part in (
        '-m torch.distributed.run',
        '--nnodes=2 --node_rank=1 --master_addr=host0 --master_port=1234',
        '--nproc_per_node=3',
        f'/tools/{kind}.py CONFIG',
        '--launcher pytorch --work-dir a b',
    ):
        assert part in words


@pytest.mark.parametrize('kind', ['train', 'test'])
def test_srun_gets_tasks_gpus_and_every_option(kind, srun):
    script = f'slurm_{kind}.sh'
    done = run(
        script,
        *ARGS[script],
        '--work-dir',
        'a b',
        PATH=srun,
        GPUS='8',
        GPUS_PER_NODE='4',
        SRUN_ARGS='--exclusive --mem=0',
    )
    lines = done.stdout.splitlines()
    for word in (
        '--partition=PART',
        '--job-name=JOB',
        '--gres=gpu:4',
        '--ntasks=8',
        '--ntasks-per-node=4',
        '--exclusive',
        '--mem=0',
        'CONFIG',
        'slurm',
        'a b',
    ):
        assert word in lines
    assert any(line.endswith(f'/tools/{kind}.py') for line in lines)
