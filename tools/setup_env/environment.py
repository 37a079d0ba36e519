"""A virtual environment: what is in it, and commands that change it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from .stacks import ROOT, SetupError, Stack, plain_name

QUIET = 4  # seconds after which a command is worth a line
HEARTBEAT = 30  # seconds between two lines of one that is still running
IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    print('\\n' + name, flush=True)
    if importlib.import_module(name).__file__ is None:
        raise ImportError('its __init__.py is missing')
"""
say = partial(print, flush=True)


class Environment:
    """A stack in a folder, with mmcv's ops or without, also for CUDA."""

    def __init__(
        self, stack: Stack, folder: Path, ops: bool = False, cuda: bool = False
    ) -> None:
        self.stack, self.folder, self.ops, self.cuda = stack, folder, ops, cuda
        self.python, self.log = folder / 'bin/python', folder / 'setup.log'

    def files(self, pattern: str) -> list[Path]:
        """Return what matches below its ``site-packages``."""
        return list(self.folder.glob(f'lib/python*/site-packages/{pattern}'))

    def records(self, name: str) -> list[Path]:
        """Return the folders that say that a distribution is installed."""
        folders = self.files('*.dist-info')
        return [f for f in folders if plain_name(f.name.split('-')[0]) == name]

    def version(self, name: str) -> str:
        """Return the installed version of a distribution, '' for none."""
        return ''.join(f.stem.split('-')[1] for f in self.records(name)[:1])

    def ask(self, code: str, *words: str) -> subprocess.CompletedProcess:
        """Run Python code, outside the checkout, whose folders import."""
        return subprocess.run(
            [self.python, '-c', code, *words],
            env=clean_variables(),
            cwd=self.folder,
            capture_output=True,
            text=True,
        )

    def broken(self, *modules: str) -> tuple[str, str] | None:
        """Return the first module that cannot be imported, and why."""
        process = self.ask(IMPORT, *modules)
        if process.returncode == 0:
            return None
        begun = [t for t in process.stdout.splitlines() if t in modules]
        said = process.stderr.strip().splitlines() or ['Python crashed']
        return begun[-1], said[-1]

    def run(
        self,
        title: str,
        *command: str | Path,
        progress: Callable[[], str] = str,
        **variables: str,
    ) -> None:
        """Run a command into the log; say that it does where it takes long.

        Raises:
            SetupError: If it fails; with the end of its output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open('a') as log:
            print(f'\n$ {" ".join(map(str, command))}', file=log, flush=True)
            process = subprocess.Popen(
                command,
                env={**clean_variables(), **variables},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                close_fds=False,  # see `locked`
                start_new_session=True,  # see `wait`
            )
            wait(process, title, progress)
        if process.returncode:
            tail = self.log.read_text(errors='replace').splitlines()[-30:]
            text = '\n'.join(tail)
            raise SetupError(f'{text}\n{title}: failed; see {self.log}')

    def pip(self, title: str, *words: str | Path, **variables: str) -> None:
        """Install; pip finds out what is there already."""
        fixed = ('-c', self.stack.file('build-'), '-c', self.stack.file())
        pip = (self.python, '-m', 'pip', 'install')
        self.run(title, *pip, *fixed, *words, **variables)

    def remove(self, names: Sequence[str]) -> None:
        """Uninstall distributions, also what an interrupted pip half wrote."""
        for name in filter(self.records, names):
            pip = (self.python, '-m', 'pip', 'uninstall', '-y')
            with suppress(SetupError):
                self.run(f'removing {name}', *pip, name)
            for folder in self.records(name):
                shutil.rmtree(folder)


def clean_variables() -> dict[str, str]:
    """Return the variables of a child: nothing foreign is importable."""
    foreign = ('PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV')
    kept = {k: v for k, v in os.environ.items() if k not in foreign}
    return {**kept, 'PYTHONNOUSERSITE': '1'}


def wait(process: subprocess.Popen, title: str, progress: Callable) -> None:
    """Wait for a child and say now and then that it is alive."""
    start, pause = time.monotonic(), QUIET
    while process.poll() is None:
        try:
            process.wait(pause)
        except subprocess.TimeoutExpired:
            beat = f'  {time.monotonic() - start:.0f} s {progress()}'
            say(title if pause == QUIET else beat.rstrip())
            pause = HEARTBEAT
        except KeyboardInterrupt:
            # pip alone would leave compilers behind.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; two set-ups must not work in one folder.

    A child inherits it, and keeps it should this process be killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w') as lock:
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'waiting for another set-up ({path}) ...')
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
