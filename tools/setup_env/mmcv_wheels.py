"""Compiled mmcv wheels, kept in the user's cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .environment import Environment, say
from .stacks import (
    SetupError,
    Stack,
    compile_jobs,
    locked,
    require_compiler,
)

TAG = """
import platform, sys, torch
version = ''.join(map(str, sys.version_info[:2]))
print(f'cp{version}-{platform.machine()}-torch{torch.__version__}')
"""
# Both kinds of mmcv have one name and version: pip's cache mixes them up.
EXACT = ('--no-cache-dir', '--force-reinstall', '--no-deps')


class MmcvWheels:
    """The compiled mmcv wheels of one Python, torch and machine.

    They are kept in the user's cache, so that another checkout need not
    compile again.
    """

    def __init__(self, env: Environment) -> None:
        tag = env.output(TAG)
        if tag is None:
            raise SetupError(f'torch does not import in {env.folder}')
        name = f'{env.stack.name}-{tag}' + ('-cuda' if env.cuda else '')
        self.env = env
        self.folder = self.root() / name
        self.requirement = env.stack.mmcv_requirement

    @staticmethod
    def root() -> Path:
        """Return the folder of all compiled wheels."""
        cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
        return Path(cache) / 'mmscope/wheels'

    @classmethod
    def any_cached(cls, stack: Stack) -> bool:
        """Return whether some environment has a wheel for this stack."""
        return any(cls.root().glob(f'{stack.name}-*/*.whl'))

    @property
    def cached(self) -> list[Path]:
        """Wheels of the required version."""
        stem = self.requirement.replace('-', '_').replace('==', '-')
        return sorted(self.folder.glob(f'{stem}-*.whl'))

    def install(self) -> None:
        """Install mmcv with ops that load, compiled only where needed.

        Raises:
            SetupError: If even a new build does not load.
        """
        with locked(self.folder / 'lock') as descriptor:
            self.env.descriptors.append(descriptor)
            try:
                self.install_locked()
            finally:
                self.env.descriptors.remove(descriptor)

    def install_locked(self) -> None:
        """Try the cached wheels, then a new build."""
        for wheel in self.cached:
            say(f'      trying the cached {wheel}')
            if not self.failure(wheel):
                return
            say('      its ops do not load here: thrown away')
            wheel.unlink()
        wheel = self.build()
        failure = self.failure(wheel)
        if failure:
            wheel.unlink()
            raise SetupError(f'a newly built mmcv does not load: {failure}')

    def failure(self, wheel: Path) -> str:
        """Install a wheel; return why its ops do not load, '' if they do."""
        self.env.pip('mmcv', *EXACT, wheel)
        self.install_needs()
        return self.env.broken(['mmcv.ops']).get('mmcv.ops', '')

    def install_without_ops(self) -> None:
        """Install mmcv's Python code alone, which mmdet does not run on.

        Its setup compiles where it can import torch, which is not there in an
        isolated build. MMCV_WITH_OPS=0 would name the original ``mmcv-lite``,
        another distribution, which pip refuses.
        """
        build = ('--build-constraint', self.env.stack.build_file)
        self.env.pip('mmcv', *EXACT, *build, self.requirement)
        self.install_needs()

    def install_needs(self) -> None:
        """Install what mmcv imports."""
        hosts = self.env.stack.host_requirements
        engine = [text for text in hosts if 'mmengine' in text]
        self.env.pip('mmcv', self.requirement, *engine)
        if self.env.broken(['mmengine']):
            # pip counts files that the other stack took away as installed.
            self.env.pip('mmcv', *EXACT, *engine)
        # Not the fault of the wheel, so not a reason to compile it again.
        for name, error in self.env.broken(['cv2', 'mmengine']).items():
            raise SetupError(
                f'{name} does not load: {error}. If a system library is '
                'missing, install it (libGL.so.1 on Debian, Ubuntu: apt '
                'install libgl1 libglib2.0-0) and run the same command again.'
            )

    def build(self) -> Path:
        """Compile a wheel; what an interrupted build left is used again."""
        require_compiler(self.env.python)
        jobs = os.environ.get('MAX_JOBS') or str(compile_jobs())
        say(
            f'      compiling {self.requirement} with {jobs} jobs: about 20 '
            'processor-minutes (10 minutes on 2 cores)'
        )
        version = self.requirement.partition('==')[2]
        source = self.folder / f'source-{version}'
        command = [self.env.python, '-m', 'pip']
        options = ['--no-build-isolation', '--no-deps', '--no-cache-dir']
        if not source.exists():
            self.unpack([*command, 'download', *options], source)
        variables = {'MMCV_WITH_OPS': '1', 'MAX_JOBS': jobs}
        if self.env.cuda:
            variables['FORCE_CUDA'] = '1'
        else:
            # A visible GPU makes mmcv's setup.py ask for nvcc.
            variables['CUDA_VISIBLE_DEVICES'] = ''
        self.env.run(
            'mmcv',
            [*command, 'wheel', *options, '-w', self.folder, source],
            lambda: compiled_files(source),
            **variables,
        )
        if not self.cached:
            raise SetupError(f'no {self.requirement} wheel in {self.folder}')
        shutil.rmtree(source)
        return self.cached[-1]

    def unpack(self, download: list[str | Path], source: Path) -> None:
        """Download the source distribution and unpack it to ``source``."""
        scratch = self.folder / 'scratch'
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        name = self.env.stack.mmcv
        self.env.run(
            'mmcv',
            [*download, '--no-binary', name, '-d', scratch, self.requirement],
        )
        archive = next(scratch.glob('*.tar.gz'))
        shutil.unpack_archive(archive, scratch)
        next(scratch.glob('*/setup.py')).parent.rename(source)
        shutil.rmtree(scratch)


def compiled_files(source: Path) -> str:
    """Return how far a ninja build in a source folder is."""
    done = sum(1 for _ in source.glob('build/temp*/**/*.o'))
    plans = source.glob('build/temp*/build.ninja')
    total = sum(
        line.startswith('build ') and ': compile' in line
        for plan in plans
        for line in plan.read_text().splitlines()
    )
    return f'({done} of {total} files compiled)' if total else ''
