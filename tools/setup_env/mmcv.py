"""mmcv without ops, or with them from a wheel that is compiled once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .environment import Environment, locked, say
from .stacks import SetupError, require_compiler

TAG = """
import platform, sys, torch
version = ''.join(map(str, sys.version_info[:2]))
print(f'\\ncp{version}-{platform.machine()}-torch{torch.__version__}')
"""
CUDA = """
from mmcv.ops import get_compiling_cuda_version
assert get_compiling_cuda_version() != 'not available'
"""
# Both kinds of mmcv have one name and version: pip's cache mixes them up.
EXACT = ('--no-cache-dir', '--force-reinstall', '--no-deps')
UNISOLATED = ('--no-cache-dir', '--no-build-isolation', '--no-deps')
JOB_MEMORY = 2e9  # bytes that one compiler process may need


def has_ops(env: Environment) -> bool:
    """Return whether compiled ops are there, be they good or not."""
    return bool(env.files('mmcv/_ext*.so'))


def pin_of(env: Environment) -> str:
    """Return mmcv's requirement, ``name==version``."""
    return env.stack.requirements()[env.stack.mmcv]


def cache() -> Path:
    """Return the folder of compiled wheels, which checkouts share."""
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root) / 'mmscope/wheels'


def compiled(env: Environment, folder: str) -> list[Path]:
    """Return the wheels of the stack's mmcv in folders of the cache."""
    stem = pin_of(env).replace('-', '_').replace('==', '-')
    return sorted(cache().glob(f'{folder}/{stem}-*.whl'))


def install_mmcv(env: Environment) -> None:
    """Install mmcv, unless it is there as it is wanted."""
    pin = pin_of(env)
    there = pin == f'{env.stack.mmcv}=={env.version(env.stack.mmcv)}'
    if env.cuda and there:
        there = env.ask(CUDA).returncode == 0
    if there and (has_ops(env) or not env.ops):
        return
    if env.ops:
        install_with_ops(env)
        return
    # Its setup compiles where it can import torch, and an isolated build
    # cannot. MMCV_WITH_OPS=0 would name the original `mmcv-lite`, another
    # distribution, which pip refuses.
    tools = ('--build-constraint', env.stack.file('build-'))
    title = 'mmcv without compiled ops (detection needs OPS=1, and the '
    env.pip(f'{title}original mmsegmentation)', *EXACT, *tools, pin)


def install_with_ops(env: Environment) -> None:
    """Install a cached wheel that loads, or compile one."""
    process = env.ask(TAG)
    if process.returncode:
        return  # torch is broken: who called repairs it first
    tag = process.stdout.splitlines()[-1] + ('-cuda' if env.cuda else '')
    folder = cache() / f'{env.stack.name}-{tag}'
    with locked(folder / 'lock'):
        if any(serves(env, wheel) for wheel in compiled(env, folder.name)):
            return
        built = compile_wheel(env, folder)
        error = failure(env, built)
        if error:
            built.unlink()
            raise SetupError(f'a newly built mmcv does not load: {error}')
        for wheel in compiled(env, folder.name):
            if wheel != built:
                wheel.unlink()


def serves(env: Environment, wheel: Path) -> bool:
    """Install a cached wheel; return whether it loads, else say why not."""
    try:
        error = failure(env, wheel)
    except SetupError as refusal:
        # A full disk cuts wheels off, too: pip calls them invalid.
        error = str(refusal)
    if error:
        say(f'{wheel} does not load here, mmcv is compiled anew: {error}')
    return not error


def failure(env: Environment, wheel: Path) -> str:
    """Install a wheel; return why it does not load, '' if it does.

    Raises:
        SetupError: If pip does not install it.
    """
    env.pip(f'mmcv with its ops, from {wheel}', *EXACT, wheel)
    found = env.broken('torch', 'cv2', 'mmengine', 'mmcv.ops')
    # What it imports is not its fault: that is found and said later.
    return found[1] if found and found[0] == 'mmcv.ops' else ''


def compile_wheel(env: Environment, folder: Path) -> Path:
    """Compile a wheel; what an interrupted build left is used again.

    Whatever is in the making, or is being removed, lies in a folder below.
    """
    require_compiler(env.python)
    pip, pin = (env.python, '-m', 'pip'), pin_of(env)
    source = folder / f'source-{pin.partition("==")[2]}'
    scratch = folder / 'scratch'
    shutil.rmtree(scratch, ignore_errors=True)
    if not source.exists():
        what = ('--no-binary', env.stack.mmcv, '-d', scratch, pin)
        env.run('downloading mmcv', *pip, 'download', *UNISOLATED, *what)
        shutil.unpack_archive(next(scratch.glob('*.tar.gz')), scratch)
        next(scratch.glob('*/setup.py')).parent.rename(source)
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    fitting = min(len(os.sched_getaffinity(0)), int(memory // JOB_MEMORY))
    jobs = os.environ.get('MAX_JOBS') or str(max(1, fitting))
    # A visible GPU makes mmcv's setup.py ask for nvcc.
    gpus = {'FORCE_CUDA': '1'} if env.cuda else {'CUDA_VISIBLE_DEVICES': ''}
    env.run(
        f'compiling {pin} with {jobs} jobs: 20 processor-minutes',
        *(*pip, 'wheel', *UNISOLATED, '-w', scratch, source),
        progress=lambda: f'({len([*source.rglob("*.o")])} files compiled)',
        **{'MMCV_WITH_OPS': '1', 'MAX_JOBS': jobs, **gpus},
    )
    (wheel,) = scratch.glob('*.whl')
    built = wheel.replace(folder / wheel.name)
    source.rename(scratch / 'source')
    shutil.rmtree(scratch)
    return built
