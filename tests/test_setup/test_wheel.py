"""What a wheel holds works outside a checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_tools.tiny import OPTIONS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ('mmscope', 'configs', 'tools', 'requirements')
FILES = (
    *('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'),
    'model-index.yml',
)
TINY = ('--cfg-options', *OPTIONS)


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """A wheel built without a compiler: its op is compiled on first use."""
    source = tmp_path_factory.mktemp('source')
    ignored = shutil.ignore_patterns('*.so', '__pycache__')
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    options = ['--no-build-isolation', '--no-deps', '-q', '-w', 'dist']
    done = subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', *options, '.'],
        cwd=source,
        env={**os.environ, 'CXX': 'no-such-compiler'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (found,) = (source / 'dist').glob('*.whl')
    return found


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """The folder that the wheel was unpacked into, as pip does."""
    folder = tmp_path_factory.mktemp('site')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


# Commands one behind the other; prints what each printed, and its status.
RUN = """
import contextlib, io, json, sys
import mmscope.cli.main as main
assert main.__file__.startswith(sys.argv[1]), main.__file__
for words in json.loads(sys.argv[2]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main.main(words) or 0
        except SystemExit as error:
            status = error.code or 0
            if isinstance(status, str):
                print(status, file=sys.stderr)
    print(json.dumps([out.getvalue(), err.getvalue(), status]))
"""


@pytest.fixture
def mmscope(installed, tmp_path):
    """Run commands in a folder of its own; give what they print."""

    def run(*commands, **variables):
        words = [list(map(str, command)) for command in commands]
        done = subprocess.run(
            [sys.executable, '-c', RUN, str(installed), json.dumps(words)],
            cwd=tmp_path,
            env={
                **os.environ,
                'PYTHONPATH': str(installed),
                'OMP_NUM_THREADS': '1',
                'MMSCOPE_COMPILE': '0',
                **variables,
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def test_a_wheel_carries_configs_sources_and_types(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(n for n in names if n.endswith('entry_points.txt'))
        entries = archive.read(entry_points).decode().split()
    assert 'mmscope.cli.main:main' in entries
    assert 'mmscope/py.typed' in names
    assert 'mmscope/ops/csrc/ops.cpp' in names
    assert 'mmscope/.mim/configs/ade20k/mambascope_ti_upernet.py' in names
    assert 'mmscope/.mim/tools/train.py' in names
    assert 'mmscope/.mim/model-index.yml' in names
    assert 'mmscope/.mim/configs/ade20k/metafile.yml' in names
    assert 'mmscope/inference/shipped/demo/model.safetensors' in names
    assert any(name.endswith('LICENSE') for name in names)
    assert not any('setup_env' in name or '/tests/' in name for name in names)


def test_the_command_finds_configs_by_their_names(mmscope, tmp_path):
    found = mmscope(
        ['config'],
        ['config', 'mambascope_ti_upernet'],
        ['config', 'vim_ti_upernet', '--copy', 'mine'],
        ['config', 'mine/ade20k/vim_ti_upernet.py'],
        ['config', 'vim_ti_uppernet'],
        ['trian'],
    )
    names, scope, copy, vim, misspelt, unknown = found
    assert 'ade20k/mambascope_ti_upernet' in names[0].splitlines()
    assert "type='mmscope.MambaScope'" in scope[0]
    assert copy[0].strip() == 'mine/ade20k/vim_ti_upernet.py'
    assert (tmp_path / copy[0].strip()).is_file()
    assert "type='mmscope.VisionMamba'" in vim[0]
    assert '/vim_ti_upernet?' in misspelt[1]
    assert misspelt[2] != 0
    assert "no command 'trian'" in unknown[1]
    assert unknown[2] == 2


@pytest.mark.slow
def test_the_model_in_a_wheel_looks_at_pictures(mmscope, tmp_path):
    pytest.importorskip('mmpretrain')
    ((out, _, status),) = mmscope(['demo', '--first-look'])
    assert 'exit ratio' in out
    assert status == 0
    assert (tmp_path / 'work_dirs/demo/pictures/first_look.png').is_file()


@pytest.mark.slow
def test_a_wheel_trains_tests_and_counts_outside_a_checkout(mmscope, tmp_path):
    pytest.importorskip('mmseg.models')
    name, work = 'mambascope_ti_upernet', ('--work-dir', 'work')
    found = mmscope(
        ['scenes', tmp_path, '--train', 4, '--val', 2],
        ['flops', name, '--json'],
        ['train', name, *work, *TINY],
        ['test', name, 'work/iter_6.pth', *work, '--exit-threshold', 0, *TINY],
        MMSCOPE_ADE20K=str(tmp_path / 'ADEChallengeData2016'),
    )
    assert [status for *_, status in found] == [0] * 4, found
    assert (tmp_path / 'work/iter_6.pth').is_file()
    assert json.loads(found[1][0])['params'] == 12_685_826
