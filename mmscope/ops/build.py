"""How the CPU operators are compiled: by setup.py, or on first use.

This file is run by setup.py, too, so it imports nothing of this package.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import SubprocessError
from tempfile import TemporaryDirectory

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
    # CXX may hold words: 'ccache g++'.
    compiler = shlex.split(os.environ.get('CXX') or 'c++')[0]
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
            if _compiled_here(library):
                return None
        torch.ops.load_library(library)
    except (OSError, RuntimeError, ImportError, SubprocessError) as error:
        hint = f'; delete {library.name} there' if library.is_file() else ''
        return f'it does not compile into or load from {folder}: {error}{hint}'
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


def _compiled_here(library: Path) -> bool:
    """Compile and load, unless another process was first.

    In a folder of this process: nobody sees a file that is not complete.
    """
    print(
        'mmscope: compiling its CPU operators, once: about half a minute '
        f'(into {library.parent}; {FIRST_USE}=0 does without)',
        file=sys.stderr,
        flush=True,
    )
    library.parent.mkdir(parents=True, exist_ok=True)
    with _alone(library.parent):
        _clear(library.parent)
        if library.is_file():
            return False
        with TemporaryDirectory(dir=library.parent) as work:
            _compile(work)
            os.replace(Path(work) / library.name, library)
    return True


def _clear(folder: Path) -> None:
    """Remove what processes that were killed had begun to compile."""
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other processes; a lock ends with the process that has it.

    That of torch's own loader is a file, which outlives a killed process:
    whoever came next would wait for ever.
    """
    import fcntl  # setup.py runs where there is none, too

    with (folder / 'compiling').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(work: str) -> None:
    from torch.utils.cpp_extension import load

    os.environ['PATH'] = _search_path()
    load(
        LIBRARY,
        list(map(str, sources())),
        extra_cflags=COMPILE_ARGS,
        extra_ldflags=LINK_ARGS,
        build_directory=work,
        is_python_module=False,
    )
