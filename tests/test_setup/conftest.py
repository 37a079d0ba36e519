"""Makes ``tools/setup_env`` importable; environments, real and recorded."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'tools'))

from setup_env.environment import Environment  # noqa: E402
from setup_env.stacks import STACKS  # noqa: E402

TAG = 'cp311-test-torch2.12.1'


class RecordedEnvironment(Environment):
    """Records what would be run, and does what pip would do for mmcv.

    Modules in `bad` do not import; installing words in `cures` mends them.
    """

    def __init__(self, folder):
        super().__init__(STACKS['onedl'], folder)
        self.site = folder / 'lib/python3.11/site-packages'
        self.site.mkdir(parents=True)
        self.commands, self.bad, self.cures = [], set(), set()

    def have(self, name):
        """Write the record of a distribution, ``name-version``."""
        (self.site / f'{name}.dist-info').mkdir(exist_ok=True)

    def give_ops(self):
        """Put compiled ops where mmcv is."""
        (self.site / 'mmcv').mkdir(exist_ok=True)
        (self.site / 'mmcv/_ext.so').touch()

    def broken(self, *modules):
        bad = [name for name in modules if name in self.bad]
        return (bad[0], 'ImportError: undefined symbol') if bad else None

    def ask(self, code, *words):
        return subprocess.CompletedProcess([], 0, f'{TAG}\n', '')

    def run(self, title, *command, **variables):
        words = [str(word) for word in command]
        self.commands.append(words)
        if self.cures.intersection(words):
            self.bad.clear()
        if 'install' in words and 'mmcv' in words[-1]:
            pin = self.stack.requirements()[self.stack.mmcv]
            self.have(pin.replace('-', '_').replace('==', '-'))
        if words[-1].endswith('.whl'):
            self.give_ops()

    def said(self, *words):
        """Return the commands that hold all of these words."""
        return [c for c in self.commands if set(words) <= set(c)]


@pytest.fixture
def env(tmp_path, monkeypatch):
    """An environment of the default stack whose commands do nothing."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return RecordedEnvironment(tmp_path / 'venv')


@pytest.fixture
def wheel(tmp_path):
    """A compiled mmcv in the cache of `env`."""
    path = tmp_path / f'cache/mmscope/wheels/onedl-{TAG}'
    path.mkdir(parents=True)
    path /= 'onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl'
    path.touch()
    return path


@pytest.fixture
def bare_env(tmp_path):
    """A real virtual environment with no package in it, not even pip."""
    folder = tmp_path / 'bare'
    subprocess.run(
        [sys.executable, '-m', 'venv', '--without-pip', folder], check=True
    )
    return Environment(STACKS['onedl'], folder)


@pytest.fixture
def site_packages(bare_env):
    """Where `bare_env` looks for packages."""
    return next(bare_env.folder.glob('lib/python*/site-packages'))
