"""The pages on the GPU's kernels say what the file of counts says."""

import json
import shutil
from pathlib import Path

import pytest

from .conftest import load_tool

RESULTS = Path(__file__).parents[2] / 'docs' / 'results'
FILES = ('gpu_kernels.json', 'gpu_kernels.md', 'gpu.md')
gpu_kernels = load_tool('analysis_tools/gpu_kernels.py')


@pytest.fixture
def counts(tmp_path):
    for name in FILES:
        shutil.copy(RESULTS / name, tmp_path)
    return tmp_path / 'gpu_kernels.json'


def test_pages_of_the_repository_are_what_the_file_says():
    gpu_kernels.main(['--check'])


def test_another_count_is_noticed(counts):
    found = json.loads(counts.read_text())
    for kernel in found['kernels'].values():
        kernel['per_token']['multiply-adds'] = 1000
    counts.write_text(json.dumps(found))
    arguments = ['--counts', str(counts)]
    with pytest.raises(SystemExit, match='is out of date'):
        gpu_kernels.main([*arguments, '--check'])
    gpu_kernels.main(arguments)
    gpu_kernels.main([*arguments, '--check'])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SystemExit, match='does not exist'):
        gpu_kernels.main(['--counts', str(tmp_path / 'none.json')])
