"""Install mmscope and, where there is a torch to build against, its C++ op.

The op is a module named after torch's minor version
(``mmscope.ops._C_torch212``), so that two environments can share one editable
checkout. It is built against the torch that is importable right now: install
with ``--no-build-isolation``.
"""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
EXTRAS = (
    *('onedl', 'openmmlab', 'cuda', 'dev'),
    *('infer', 'ray', 'hub', 'page'),
)


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
        f'{rule}\nmmscope installs WITHOUT its compiled scan: {reason}.\n'
        'With a compiler it is compiled on first use, into a cache;\n'
        'elsewhere CPU runs use the slow `reference` backend and say so.\n'
        'To build it now: pip install --no-build-isolation -e .\n'
        f'{rule}',
        file=sys.stderr,
    )


def compiled_op() -> dict:
    """Return the setup() arguments that build the op, empty if it cannot."""
    build = runpy.run_path(str(ROOT / 'mmscope/ops/build.py'))
    sources = [str(path.relative_to(ROOT)) for path in build['sources']()]
    try:
        import torch
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError as error:
        say_loudly(f'torch cannot be imported ({error})')
        return {}
    if reason := build['why_no_compiler']():
        say_loudly(reason)
        return {}
    major, minor = torch.__version__.split('.')[:2]
    extension = CppExtension(
        f'mmscope.ops._C_torch{major}{minor}',
        sources,
        depends=sorted(map(str, Path('mmscope/ops/csrc').glob('*.h'))),
        define_macros=[('Py_LIMITED_API', '0x030a0000')],
        extra_compile_args=build['COMPILE_ARGS'],
        extra_link_args=build['LINK_ARGS'],
        # One file for every Python from 3.10 on.
        py_limited_api=True,
    )
    return {
        'ext_modules': [extension],
        'cmdclass': {
            'build_ext': BuildExtension,
            'build_py': BuildWithConfigs,
        },
        'options': {'bdist_wheel': {'py_limited_api': 'cp310'}},
    }


class BuildWithConfigs(build_py):
    """Puts configs and tools where OpenMMLab's ``mim`` looks for them."""

    def run(self) -> None:
        """Copy modules, then configs and tools."""
        super().run()
        target = Path(self.build_lib) / 'mmscope/.mim'
        for folder in ('configs', 'tools'):
            shutil.copytree(
                ROOT / folder,
                target / folder,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns('__pycache__', 'setup_env'),
            )
        shutil.copy(ROOT / 'model-index.yml', target)


os.chdir(ROOT)
op = compiled_op()
setup(
    name='mmscope',
    version=read_version(),
    description='MambaScope and Vision Mamba as OpenMMLab plugins',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=[
        *('vision mamba', 'early exit', 'adaptive inference'),
        *('openmmlab', 'mmsegmentation', 'mmdetection', 'mmpretrain'),
    ],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: C++',
        'Programming Language :: Python :: 3 :: Only',
        *(f'Programming Language :: Python :: 3.{v}' for v in (10, 11, 12)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['mmscope', 'mmscope.*']),
    package_data={
        'mmscope': ['py.typed'],
        'mmscope.inference': ['shipped/*/*'],
        'mmscope.ops': ['csrc/*'],
    },
    # Neither stack: each would overwrite the packages of the other.
    install_requires=read_requirements('runtime'),
    extras_require={name: read_requirements(name) for name in EXTRAS},
    entry_points={'console_scripts': ['mmscope=mmscope.cli.main:main']},
    **{'cmdclass': {'build_py': BuildWithConfigs}, **op},
)
