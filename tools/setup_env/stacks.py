"""The two stacks, and the Python and compiler that they need."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class SetupError(Exception):
    """A problem that the user has to solve; its text says how."""


class Stack(NamedTuple):
    """One family of host packages."""

    name: str
    mmcv: str  # the distribution whose ops are compiled
    pythons: tuple[tuple[int, int], ...]  # the preferred one first
    refusal: str  # why there are no others
    without_ops: tuple[str, ...]  # what runs on mmcv's Python code alone

    def file(self, prefix: str = '') -> Path:
        """Its requirements; with 'build-' those that mmcv compiles with."""
        return ROOT / f'requirements/{prefix}{self.name}.txt'

    def requirements(self) -> dict[str, str]:
        """Requirements on mmcv, the hosts and more, by plain name."""
        lines = self.file().read_text(encoding='utf-8').splitlines()
        texts = filter(None, (t.partition('#')[0].strip() for t in lines))
        return {plain_name(text): text for text in texts}

    @property
    def hosts(self) -> list[str]:
        """Names of mmcv and the hosts, which this stack alone installs."""
        return [name for name in self.requirements() if 'mm' in name]


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


def plain_name(requirement: str) -> str:
    """Return the normalised name in ``name==1.0`` or ``name<2,>=1``."""
    name = re.split(r'[<>=!~\[;\s]', requirement, maxsplit=1)[0]
    return re.sub(r'[-_.]+', '-', name).lower()


def answer(python: str | Path, code: str) -> str:
    """Return what a Python prints, '' if it does not run."""
    try:
        return subprocess.check_output(
            [python, '-c', code], stderr=subprocess.DEVNULL, text=True
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return ''


def python_version(python: str | Path) -> str:
    """Return '3.11' for a Python of that version, '' if it does not run."""
    return answer(python, 'import sys; print("%d.%d" % sys.version_info[:2])')


def choose_python(stack: Stack, wanted: str | None) -> str:
    """Return the Python for an environment: ``wanted``, or one that fits."""
    good = [f'{major}.{minor}' for major, minor in stack.pythons]
    search = [f'python{version}' for version in good]
    seen = []
    for name in [wanted] if wanted else [*search, 'python3', sys.executable]:
        version = python_version(name)
        if version in good:
            return name
        seen.append(
            f'{name} ' + (f'is {version}' if version else 'does not run')
        )
    raise SetupError(
        f'STACK={stack.name} needs Python {", ".join(sorted(good))}: '
        f'{stack.refusal}. Found: {"; ".join(seen)}. Install a supported one, '
        'or name it: make setup PYTHON=/path/to/python'
    )


def why_no_compiler() -> str | None:
    """Return None if C++ can be compiled here, else the reason."""
    build = runpy.run_path(str(ROOT / 'mmscope/ops/build.py'))
    return build['why_no_compiler']()


def require_compiler(python: Path) -> None:
    """Raise a SetupError where mmcv cannot be compiled for a Python."""
    code = 'import sysconfig; print(sysconfig.get_path("include"))'
    header, reason = Path(answer(python, code), 'Python.h'), why_no_compiler()
    if reason or not header.exists():
        raise SetupError(
            f'mmcv must be compiled, and {reason or f"there is no {header}"}. '
            'Install it (Debian, Ubuntu: apt install g++ python3-dev; Fedora: '
            'dnf install gcc-c++ python3-devel), or name another in CXX or '
            'PYTHON, and run the same command again'
        )
