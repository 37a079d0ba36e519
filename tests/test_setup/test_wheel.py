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


@pytest.fixture
def mmscope(installed, tmp_path):
    """Run the command in a folder of its own; give what it prints."""

    def run(*args, status=0, **variables):
        code = (
            'import sys, mmscope.cli.main as m; '
            f'assert m.__file__.startswith({str(installed)!r}), m.__file__; '
            'm.main(sys.argv[1:])'
        )
        done = subprocess.run(
            [sys.executable, '-c', code, *map(str, args)],
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
        assert done.returncode == status, done.stderr[-3000:]
        return done.stdout if status == 0 else done.stderr

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
    names = mmscope('config').splitlines()
    assert 'ade20k/mambascope_ti_upernet' in names
    assert "type='mmscope.MambaScope'" in mmscope(
        'config', 'mambascope_ti_upernet'
    )
    copy = Path(mmscope('config', 'vim_ti_upernet', '--copy', 'mine').strip())
    assert (tmp_path / copy).is_file()
    assert "type='mmscope.VisionMamba'" in mmscope('config', copy)
    assert '/vim_ti_upernet?' in mmscope('config', 'vim_ti_uppernet', status=1)
    assert "no command 'trian'" in mmscope('trian', status=2)


@pytest.mark.slow
def test_the_model_in_a_wheel_looks_at_pictures(mmscope, tmp_path):
    pytest.importorskip('mmpretrain')
    assert 'exit ratio' in mmscope('demo', '--first-look')
    assert (tmp_path / 'work_dirs/demo/pictures/first_look.png').is_file()


@pytest.mark.slow
def test_a_wheel_trains_tests_and_counts_outside_a_checkout(mmscope, tmp_path):
    pytest.importorskip('mmseg.models')
    mmscope('scenes', tmp_path, '--train', 4, '--val', 2)
    data = {'MMSCOPE_ADE20K': str(tmp_path / 'ADEChallengeData2016')}
    work = ('--work-dir', 'work')
    mmscope('train', 'mambascope_ti_upernet', *work, *TINY, **data)
    assert (tmp_path / 'work/iter_6.pth').is_file()
    mmscope(
        *('test', 'mambascope_ti_upernet', 'work/iter_6.pth', *work),
        *('--exit-threshold', 0, *TINY),
        **data,
    )
    counted = mmscope('flops', 'mambascope_ti_upernet', '--json')
    assert json.loads(counted)['params'] == 12_685_826
