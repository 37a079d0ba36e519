"""Build mamba-ssm's ``selective_scan_cuda`` alone, for the card at hand.

Its own set-up compiles for a dozen kinds of cards and wants packages that the
scan does not need.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import torch

from mmscope.benchmark.gpu.rival import MODULE
from mmscope.errors import UserError

# The newest release whose scan is plain CUDA and whose wheels have it.
PACKAGE = 'mamba-ssm==2.2.6.post3'
FOLDER = Path('csrc') / 'selective_scan'
TYPES = ('fp32', 'fp16', 'bf16')
SOURCES = (
    'selective_scan.cpp',
    *(f'selective_scan_fwd_{kind}.cu' for kind in TYPES),
    *(
        f'selective_scan_bwd_{kind}_{field}.cu'
        for kind in TYPES
        for field in ('real', 'complex')
    ),
)
# Those of its setup.py; PyTorch adds the language's version and the card.
NVCC_FLAGS = (
    '-O3',
    '-U__CUDA_NO_HALF_OPERATORS__',
    '-U__CUDA_NO_HALF_CONVERSIONS__',
    '-U__CUDA_NO_BFLOAT16_OPERATORS__',
    '-U__CUDA_NO_BFLOAT16_CONVERSIONS__',
    '-U__CUDA_NO_BFLOAT162_OPERATORS__',
    '-U__CUDA_NO_BFLOAT162_CONVERSIONS__',
    '--expt-relaxed-constexpr',
    '--expt-extended-lambda',
    '--use_fast_math',
)


def why_no_build(capability: str | None) -> str | None:
    """Say why nothing can be built here; None if it can."""
    from torch.utils.cpp_extension import CUDA_HOME

    if torch.version.cuda is None:
        return f'torch {torch.__version__} is no CUDA build'
    if CUDA_HOME is None or not (Path(CUDA_HOME) / 'bin' / 'nvcc').is_file():
        return (
            f'there is no nvcc (CUDA_HOME is {CUDA_HOME}): install the CUDA '
            f'toolkit {torch.version.cuda} and set CUDA_HOME'
        )
    if shutil.which('ninja') is None:
        return 'there is no ninja: pip install ninja'
    if capability is None and not torch.cuda.is_available():
        return 'torch sees no GPU to build for: name one with --capability 9.0'
    return None


def find_sources(source: str | Path, scratch: str | Path) -> tuple[Path, ...]:
    """Find the files of the scan in a source package or its archive.

    An archive is unpacked into the folder ``scratch``.

    Raises:
        UserError: If there is no such thing, or a file is missing.
    """
    source = Path(source)
    if source.is_file():
        try:
            with tarfile.open(source) as archive:
                archive.extractall(scratch, filter='data')
        except tarfile.TarError as error:
            raise UserError(
                f'{source} is no source package of mamba-ssm: {error}'
            ) from error
        source = Path(scratch)
    found = sorted(source.glob(f'**/{FOLDER.as_posix()}'))
    if not found:
        raise UserError(
            f'{source} has no folder {FOLDER}: give the sources of {PACKAGE}'
        )
    paths = tuple(found[0] / name for name in SOURCES)
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f'{found[0]} lacks {", ".join(missing)}: give the sources of '
            f'{PACKAGE}'
        )
    return paths


def build(
    target: str | Path,
    source: str | Path,
    capability: str | None = None,
    jobs: int | None = None,
) -> Path:
    """Build the module.

    Args:
        target (str | Path): Folder that gets it, made if it is not there.
        source (str | Path): See :func:`find_sources`.
        capability (str | None): Of the card, such as '9.0'; None for the one
            at hand. Defaults to None.
        jobs (int | None): Compilers at once, None for all cores. Defaults to
            None.

    Returns:
        Path: The folder, to be put on PYTHONPATH.

    Raises:
        UserError: If sources are missing or it cannot be compiled here.
    """
    from torch.utils import cpp_extension

    if reason := why_no_build(capability):
        raise UserError(f'{MODULE} cannot be built here: {reason}')
    target = Path(target).resolve()
    # Out of the scratch folder: the objects are kept, and with them a second
    # build takes seconds.
    kept = target / 'sources'
    with tempfile.TemporaryDirectory() as scratch:
        sources = find_sources(source, scratch)
        shutil.copytree(sources[0].parent, kept, dirs_exist_ok=True)
    if capability is None:
        capability = '.'.join(map(str, torch.cuda.get_device_capability()))
    # What PyTorch's builder reads.
    os.environ['TORCH_CUDA_ARCH_LIST'] = capability
    os.environ['MAX_JOBS'] = str(jobs or os.cpu_count() or 1)
    try:
        cpp_extension.load(
            name=MODULE,
            sources=[str(kept / path.name) for path in sources],
            extra_cflags=['-O3'],
            extra_cuda_cflags=list(NVCC_FLAGS),
            extra_include_paths=[str(kept)],
            build_directory=str(target),
            with_cuda=True,
            verbose=True,
        )
    except (RuntimeError, ImportError, OSError) as error:
        raise UserError(f'{MODULE} was not built: {error}') from error
    return target
