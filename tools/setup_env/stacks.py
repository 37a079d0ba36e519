"""The two stacks, and what set-up needs to start: Python, compiler, lock."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JOB_MEMORY = 2e9  # bytes that one compiler process of mmcv may need


class SetupError(Exception):
    """A problem that the user has to solve; its text says how."""


@dataclass(frozen=True)
class Stack:
    """One family of host packages.

    Args:
        name (str): Stem of its files in ``requirements/``.
        mmcv (str): Distribution that carries the compiled ops.
        pythons (tuple): Supported (major, minor), the preferred one first.
        refusal (str): Why other versions of Python are refused.
        without_ops (tuple): What runs on mmcv's Python code alone.
    """

    name: str
    mmcv: str
    pythons: tuple[tuple[int, int], ...]
    refusal: str
    without_ops: tuple[str, ...]

    @property
    def build_file(self) -> Path:
        """Requirements that must be there before mmcv compiles."""
        return ROOT / f'requirements/build-{self.name}.txt'

    @property
    def hosts_file(self) -> Path:
        """Requirements of mmcv and the hosts."""
        return ROOT / f'requirements/{self.name}.txt'

    @property
    def mmcv_requirement(self) -> str:
        """The one requirement that has to be compiled."""
        requirements = read_requirements(self.hosts_file)
        return next(r for r in requirements if self.is_mmcv(r))

    @property
    def host_requirements(self) -> list[str]:
        """The others."""
        requirements = read_requirements(self.hosts_file)
        return [r for r in requirements if not self.is_mmcv(r)]

    def is_mmcv(self, requirement: str) -> bool:
        """Return whether a requirement names mmcv."""
        return distribution_name(requirement) == self.mmcv


STACKS = {
    'onedl': Stack(
        'onedl',
        'onedl-mmcv',
        ((3, 11), (3, 12), (3, 10)),
        'that is what mmscope is made for and tested with',
        ('mmseg.models', 'mmpretrain.models'),
    ),
    'openmmlab': Stack(
        'openmmlab',
        'mmcv',
        ((3, 11), (3, 10)),
        'torch 2.1.2, which mmcv 2.1.0 needs, was never published for 3.12 '
        'and later (STACK=onedl runs on 3.12)',
        ('mmpretrain.models',),
    ),
}


def read_requirements(path: Path) -> list[str]:
    """Return the requirements in a file, without comments."""
    lines = path.read_text(encoding='utf-8').splitlines()
    stripped = [line.partition('#')[0].strip() for line in lines]
    return [line for line in stripped if line]


def distribution_name(requirement: str) -> str:
    """Return the normalised name in ``name==1.0`` or ``name<2,>=1``."""
    name = re.split(r'[<>=!~\[;\s]', requirement, maxsplit=1)[0]
    return re.sub(r'[-_.]+', '-', name).lower()


def host_names(stack: Stack) -> set[str]:
    """Return the distributions that only this stack may install."""
    names = map(distribution_name, read_requirements(stack.hosts_file))
    return {name for name in names if 'mm' in name}


def foreign_distributions(stack: Stack, installed: Sequence[str]) -> list[str]:
    """Return installed distributions that belong to the other stack.

    Both stacks own the same top-level packages (``mmcv``, ``mmseg``, ...),
    so one of them has silently overwritten files of the other.
    """
    foreign = set().union(*map(host_names, STACKS.values()))
    foreign -= host_names(stack)
    return [name for name in installed if distribution_name(name) in foreign]


def describe(version: Sequence[int]) -> str:
    """Return ``3.11`` for (3, 11)."""
    return '.'.join(map(str, version))


def python_version(command: str | Path) -> tuple[int, int] | None:
    """Return (major, minor) of an interpreter, None if it does not run."""
    code = 'import sys; print(*sys.version_info[:2])'
    try:
        answer = subprocess.run(
            [command, '-c', code], capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return None
    return int(answer[0]), int(answer[1])


def choose_python(stack: Stack, wanted: str | None) -> str:
    """Return the interpreter that the environment is made with.

    Args:
        stack (Stack): The stack to install.
        wanted (str | None): The user's ``PYTHON``, None to search for one.

    Returns:
        str: A command whose version the stack supports.

    Raises:
        SetupError: If ``wanted`` is unsupported or nothing fits.
    """
    names = [f'python{describe(version)}' for version in stack.pythons]
    candidates = [wanted] if wanted else [*names, 'python3', sys.executable]
    seen = []
    for name in candidates:
        version = python_version(name)
        if version in stack.pythons:
            return name
        state = f'is {describe(version)}' if version else 'does not run'
        seen.append(f'{name} {state}')
    accepted = ', '.join(map(describe, sorted(stack.pythons)))
    raise SetupError(
        f'STACK={stack.name} needs Python {accepted}: {stack.refusal}. '
        f'Found: {"; ".join(seen)}. Install a supported one, or name it: '
        'make setup PYTHON=/path/to/python'
    )


def require_compiler(python: str | Path) -> None:
    """Check that C++ extensions can be compiled for an interpreter.

    Args:
        python (str | Path): The interpreter whose headers are needed.

    Raises:
        SetupError: If there is no C++ compiler or no ``Python.h``.
    """
    compiler = os.environ.get('CXX') or 'c++'
    if shutil.which(compiler) is None:
        raise SetupError(
            f'no C++ compiler: {compiler!r} is not on PATH, and mmcv must be '
            'compiled. Install one (Debian, Ubuntu: apt install g++; '
            'Fedora: dnf install gcc-c++) or name yours in CXX, then run '
            'the same command again.'
        )
    code = 'import sysconfig; print(sysconfig.get_paths()["include"])'
    include = subprocess.run(
        [python, '-c', code], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(include, 'Python.h').exists():
        raise SetupError(
            f'{include}/Python.h is missing, and mmcv cannot be compiled '
            'without it. Install the headers of this Python (Debian, '
            'Ubuntu: apt install python3-dev) or choose another one: '
            'make setup PYTHON=/path/to/python'
        )


def compile_jobs() -> int:
    """Return how many compilers fit into the processors and the memory."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    processors = len(os.sched_getaffinity(0))
    return max(1, min(processors, int(memory // JOB_MEMORY)))


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a lock file; two set-ups must not work in one folder.

    Args:
        path (Path): The lock file, made where it is missing.

    Yields:
        int: Its descriptor. A child that inherits it keeps the lock, should
        this process be killed and leave the child behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f'waiting for another set-up ({path}) ...', flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()
