"""The report runs everywhere, and says what is wrong and how to fix it."""

import json
import os
import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import mmengine
import pytest
import torch
from builders.tools import load_tool
from setup_env.stacks import plain_name

from mmscope.ops import available_backends
from mmscope.version import __version__

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools/collect_env.py'
CODE = ROOT / 'mmscope/cli/collect_env.py'


def collect(python=sys.executable, path=None):
    """Return the JSON report of an interpreter."""
    variables = {**os.environ, 'PYTHONPATH': str(path or '')}
    process = subprocess.run(
        [python, TOOL, '--json'],
        env=variables,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def installed(name):
    """Return whether a distribution is installed here."""
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def live_stack():
    """Return the stack that these tests run on."""
    return 'onedl' if installed('onedl-mmengine') else 'openmmlab'


def write_broken_mmcv(folder):
    """Write an mmcv whose ops were compiled for another torch."""
    ops = folder / 'mmcv/ops'
    ops.mkdir(parents=True)
    (folder / 'mmcv/__init__.py').touch()
    (ops / '__init__.py').write_text(
        "raise ImportError('_ext.so: undefined symbol: _ZN3c10')"
    )


def write_distribution(folder, name):
    """Write the metadata of an installed distribution."""
    info = folder / f'{name.replace("-", "_")}-9.9.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n'
    )


@pytest.fixture(scope='module')
def live():
    """The report of the environment that these tests run in."""
    return collect()


def test_live_environment_is_reported(live):
    assert live['torch']['version'] == torch.__version__
    assert live['hosts']['mmengine'] == mmengine.__version__
    assert live['mmscope'] == __version__
    assert live['stack'] == live_stack()
    assert live['scan']['reference'] is None


def test_scan_backends_agree_with_the_package(live):
    if torch.cuda.is_available():
        pytest.skip('the report merges the devices of this machine')
    works = {k for k, why in live['scan'].items() if why is None}
    assert works == set(available_backends('cpu'))


def test_broken_mmcv_ops_come_with_the_command_that_fixes_them(tmp_path):
    write_broken_mmcv(tmp_path)
    report = collect(path=tmp_path)
    assert not report['mmcv_ops']['works']
    assert 'undefined symbol' in report['mmcv_ops']['error']
    line = next(text for text in report['fixes'] if 'no working ops' in text)
    assert 'make setup' in line or '--force-reinstall' in line


def test_a_broken_host_is_named_with_its_error(live, tmp_path):
    name = next(name for name, found in live['hosts'].items() if found)
    (tmp_path / name).mkdir()
    text = "raise ImportError('half of it')"
    (tmp_path / name / '__init__.py').write_text(text)
    report = collect(path=tmp_path)
    assert report['broken_hosts'][name] == 'ImportError: half of it'
    line = next(text for text in report['fixes'] if 'not import' in text)
    assert line.startswith(f'{name} does not import (ImportError: half of it)')


def test_both_stacks_together_are_an_error(tmp_path):
    other = 'mmcv' if live_stack() == 'onedl' else 'onedl-mmcv'
    write_distribution(tmp_path, other)
    report = collect(path=tmp_path)
    assert report['stack'] == 'both'
    assert any(text.startswith('ERROR: both') for text in report['fixes'])


def test_bare_interpreter_gets_a_report_and_commands(bare_env):
    report = collect(python=bare_env.python)
    assert report['stack'] == 'none'
    assert report['torch']['version'] is None
    fixes = '\n'.join(report['fixes'])
    assert 'MMCV_WITH_OPS=1 pip install --no-build-isolation' in fixes
    assert 'pip install onedl-mmengine==' in fixes
    assert "pip install 'msgspec>=0.18' 'pandas>=2.2,<4'" in fixes


def test_a_command_for_mmcv_never_takes_the_other_kind_from_a_cache(bare_env):
    fixes = collect(python=bare_env.python)['fixes']
    (line,) = [text for text in fixes if text.startswith('mmcv is absent')]
    assert '--no-cache-dir' in line
    assert '--force-reinstall' not in line


def test_the_report_names_what_the_package_requires():
    path = ROOT / 'requirements/runtime.txt'
    lines = path.read_text().splitlines()
    needed = {plain_name(line) for line in lines if line[0] != '#'}
    assert set(runpy.run_path(str(CODE))['RUNTIME']) == needed - {'torch'}


def test_text_report_names_every_backend(capsys):
    load_tool('collect_env').main([])
    report = capsys.readouterr().out
    for word in ('scan reference', 'scan cpu', 'mmcv ops', 'stack'):
        assert word in report


@pytest.mark.parametrize(
    ('found', 'version', 'wanted'),
    [
        ('none', '2.1.2+cpu', 'openmmlab'),
        ('none', '2.12.1', 'onedl'),
        ('none', None, 'onedl'),
        ('onedl', '2.1.2', 'onedl'),
        ('openmmlab', '2.12.1', 'openmmlab'),
        ('both', '2.1.2', 'openmmlab'),
    ],
)
def test_where_no_host_is_torch_says_which_stack(found, version, wanted):
    assert load_tool('collect_env').wanted_stack(found, version) == wanted
