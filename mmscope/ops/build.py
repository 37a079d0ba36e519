"""How the CPU operators are compiled: by setup.py, or on first use.

This file is run by setup.py, too, so it imports nothing of this package.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / 'csrc'
# No -march: the instruction set is chosen at run time, so that a build from
# one machine never dies of an illegal instruction on another. Debug symbols
# would make up 19 of 20 bytes and half of the time.
OPENMP = ['-fopenmp'] if sys.platform.startswith('linux') else []
COMPILE_ARGS = ['-O3', '-g0', *OPENMP]
LINK_ARGS = ['-s', *OPENMP] if sys.platform.startswith('linux') else []
FIRST_USE = 'MMSCOPE_COMPILE'
LIBRARY = 'mmscope_ops'


def sources() -> list[Path]:
    """Return the C++ files, without what they include."""
    return sorted(SOURCES.glob('*.cpp'))


def why_no_compiler() -> str | None:
    """Return None if C++ can be compiled here, else the reason."""
    compiler = os.environ.get('CXX') or 'c++'
    if shutil.which(compiler) is None:
        return f'there is no C++ compiler ({compiler}, see CXX)'
    return None


def cache_folder() -> Path:
    """Return where what is compiled on first use is kept.

    Its name has a hash of sources and flags, and torch's version: another
    one of either is compiled anew.
    """
    import torch

    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    texts = [path.read_bytes() for path in sorted(SOURCES.iterdir())]
    texts.append(' '.join([*COMPILE_ARGS, *LINK_ARGS]).encode())
    digest = hashlib.sha256(b'\0'.join(texts)).hexdigest()[:12]
    name = f'torch{torch.__version__}-{digest}'
    return Path(root) / 'mmscope' / 'ops' / name


def load_compiled() -> str | None:
    """Load the library of this user's cache, compiled first if need be.

    Returns:
        str | None: None if it is loaded, else the reason why not.
    """
    import torch

    if os.environ.get(FIRST_USE) == '0':
        return f'compiling it on first use is switched off ({FIRST_USE}=0)'
    folder = cache_folder()
    library = folder / f'{LIBRARY}.so'
    try:
        if not library.is_file():
            if reason := _why_not_here():
                return reason
            _compile(folder)
        torch.ops.load_library(library)
    except (OSError, RuntimeError, ImportError) as error:
        return f'it cannot be compiled into {folder}: {error}'
    return None


def _why_not_here() -> str | None:
    if not sources():
        return 'its sources are not installed'
    if shutil.which('ninja', path=_search_path()) is None:
        return 'compiling it on first use needs ninja (pip install ninja)'
    return why_no_compiler()


def _search_path() -> str:
    """PATH, and the programs of an environment that is not activated."""
    own = str(Path(sys.executable).parent)
    return os.pathsep.join([os.environ.get('PATH', os.defpath), own])


def _compile(folder: Path) -> None:
    from torch.utils.cpp_extension import load

    os.environ['PATH'] = _search_path()
    print(
        'mmscope: compiling its CPU operators, once: about half a minute '
        f'(into {folder}; {FIRST_USE}=0 does without)',
        file=sys.stderr,
        flush=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    load(
        LIBRARY,
        list(map(str, sources())),
        extra_cflags=COMPILE_ARGS,
        extra_ldflags=LINK_ARGS,
        build_directory=str(folder),
        is_python_module=False,
    )
