"""Makes ``tools/setup_env`` importable and offers a recorded environment."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'tools'))

from setup_env.environment import Environment  # noqa: E402
from setup_env.stacks import STACKS  # noqa: E402


class RecordedEnvironment(Environment):
    """Records commands in place of running them.

    `loads` decides, per module, whether an import would work.
    """

    def __init__(self, folder):
        super().__init__(STACKS['onedl'], folder)
        self.commands = []
        self.broken_modules = set()
        self.strangers = []
        self.state.mkdir(parents=True)

    def broken(self, modules):
        return {
            name: 'ImportError: undefined symbol'
            for name in modules
            if name in self.broken_modules
        }

    def output(self, code, *arguments):
        return 'cp311-test-torch2.12.1'

    def foreign(self):
        return self.strangers

    def run(self, title, command, progress=str, **variables):
        self.commands.append([title, *map(str, command)])
        self.react(title, self.commands[-1])

    def react(self, title, command):
        """What the command would change; tests replace it."""

    def titles(self):
        return list(dict.fromkeys(command[0] for command in self.commands))


@pytest.fixture
def env(tmp_path, monkeypatch):
    """An environment of the default stack whose commands do nothing."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return RecordedEnvironment(tmp_path / 'venv')


@pytest.fixture
def wheel(env):
    """A compiled mmcv wheel in the cache of `env`."""
    folder = env.folder.parent / (
        'cache/mmscope/wheels/onedl-cp311-test-torch2.12.1'
    )
    folder.mkdir(parents=True)
    path = folder / 'onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl'
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
