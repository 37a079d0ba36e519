"""Install mmscope and, where there is a torch to build against, its C++ op.

The op is a module named after torch's minor version
(``mmscope.ops._C_torch212``), so that two environments can share one editable
checkout. It is built against the torch that is importable right now: install
with ``--no-build-isolation``.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
SOURCE_FOLDER = Path('mmscope/ops/csrc')
EXTRAS = ('onedl', 'openmmlab', 'cuda', 'dev')


def read_version() -> str:
    """Return ``__version__`` without importing the package."""
    names: dict[str, str] = {}
    exec((ROOT / 'mmscope/version.py').read_text(), names)
    return names['__version__']


def read_requirements(name: str) -> list[str]:
    """Return the requirements in ``requirements/<name>.txt``."""
    lines = (ROOT / f'requirements/{name}.txt').read_text().splitlines()
    stripped = [line.partition('#')[0].strip() for line in lines]
    return [line for line in stripped if line]


def say_loudly(reason: str) -> None:
    """Tell on stderr that the op is left out, and what to do."""
    rule = '*' * 72
    print(
        f'{rule}\nmmscope installs WITHOUT its compiled scan: {reason}\n'
        'CPU runs will use the slow `reference` backend and warn about it.\n'
        'Once that is fixed: pip install --no-build-isolation -e .\n'
        f'{rule}',
        file=sys.stderr,
    )


def compiled_op() -> dict:
    """Return the setup() arguments that build the op, empty if it cannot."""
    sources = sorted(map(str, SOURCE_FOLDER.glob('*.cpp')))
    if not sources:
        return {}
    try:
        import torch
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError as error:
        say_loudly(f'torch cannot be imported ({error}).')
        return {}
    if shutil.which(os.environ.get('CXX') or 'c++') is None:
        say_loudly('there is no C++ compiler (c++, or the one named by CXX).')
        return {}
    major, minor = torch.__version__.split('.')[:2]
    # No -march: the op picks AVX2 or AVX-512 at run time, so that a build
    # from one machine never dies of an illegal instruction on another.
    openmp = ['-fopenmp'] if sys.platform.startswith('linux') else []
    extension = CppExtension(
        f'mmscope.ops._C_torch{major}{minor}',
        sources,
        depends=sorted(map(str, SOURCE_FOLDER.glob('*.h'))),
        extra_compile_args=['-O3', *openmp],
        extra_link_args=openmp,
    )
    return {
        'ext_modules': [extension],
        'cmdclass': {'build_ext': BuildExtension},
    }


os.chdir(ROOT)
setup(
    name='mmscope',
    version=read_version(),
    description='MambaScope and Vision Mamba as OpenMMLab plugins',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['mmscope', 'mmscope.*']),
    package_data={'mmscope.ops': ['csrc/*']},
    # Neither stack: each would overwrite the packages of the other.
    install_requires=['torch>=2.1'],
    extras_require={name: read_requirements(name) for name in EXTRAS},
    **compiled_op(),
)
