"""Make or refresh the virtual environment of one stack.

``make setup`` runs this with any Python from 3.9 on; the options are
environment variables, which the Makefile names. pip finds out what is missing,
so an interrupted set-up goes on where it was. Every run imports what pip
believes to be there: what does not import is installed again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping

from .environment import Environment, locked, say
from .mmcv import compiled, has_ops, install_mmcv
from .stacks import (
    ROOT,
    STACKS,
    SetupError,
    choose_python,
    python_version,
    require_compiler,
    why_no_compiler,
)

DISK_NEEDED = 8e9  # bytes: torch and its CUDA libraries take most of them
OP_FOLDER = ROOT / 'mmscope/ops'
HOSTS = ('mmseg.models', 'mmpretrain.models', 'mmdet.models')


def prepare(env: Environment, wanted: str | None) -> None:
    """Make the virtual environment, or check the one that is there."""
    folder, here = env.folder, str(env.python)
    # What pip writes last: without it, the making was interrupted.
    present = env.files('pip-*.dist-info/RECORD') and python_version(here)
    python = choose_python(env.stack, wanted or (here if present else None))
    if present and python_version(python) != present:
        raise SetupError(
            f'{folder} holds Python {present}, and PYTHON={wanted} is another:'
            ' remove that folder, or give VENV=<another folder>'
        )
    if present:
        return
    strange = {path.name for path in folder.glob('*')} - {env.log.name}
    if strange and not (folder / 'pyvenv.cfg').exists():
        raise SetupError(
            f'{folder} is no virtual environment, and is left alone: give '
            'VENV=<another folder>'
        )
    say(f'making {folder} with {python}')
    shutil.rmtree(folder, ignore_errors=True)
    env.run('venv', python, '-m', 'venv', folder)


def refresh(env: Environment) -> None:
    """Install what is missing, and again what does not import."""
    hosts = env.stack.hosts
    every = [name for stack in STACKS.values() for name in stack.hosts]
    foreign = [n for n in every if n not in hosts and env.records(n)]
    if foreign:
        say(f'removing packages of the other stack: {", ".join(foreign)}')
        # Both own the same files, so ours are not what they were.
        env.remove([*foreign, *hosts])
    install(env)
    wanted, tried = checks(env), set()
    while found := env.broken(*wanted):
        name, error = found
        if name in tried:
            raise SetupError(
                f'{name} was installed and does not import: {error}. If a '
                'system library is missing (libGL.so.1 on Debian, Ubuntu: '
                'apt install libgl1 libglib2.0-0), install it and run the '
                f'same command again; see {env.log}'
            )
        tried.add(name)
        say(f'{name} is broken ({error}): installing it again')
        env.remove(wanted[name])
        install(env)


def checks(env: Environment) -> dict[str, list[str]]:
    """Return what must import, each with what is installed again if not.

    What is first may be the cause why others fail.
    """
    torch, mmcv = ['torch', 'torchvision'], env.stack.mmcv
    hosts = [name for name in env.stack.hosts if name != mmcv]
    return {
        **dict.fromkeys(torch, torch),
        'cv2': ['opencv-python'],
        'mmengine': hosts,
        'mmcv.ops' if env.ops else 'mmcv.transforms': [mmcv],
        **dict.fromkeys(HOSTS if env.ops else env.stack.without_ops, hosts),
        'mmscope': ['mmscope'],
    }


def install(env: Environment) -> None:
    """Install what is missing, in the order that works."""
    free = shutil.disk_usage(env.folder).free
    if free < DISK_NEEDED and not env.records('torch'):
        raise SetupError(
            f'{free / 1e9:.1f} GB are free for {env.folder}, and torch with '
            f'its libraries needs about {DISK_NEEDED / 1e9:.0f} GB'
        )
    cached = compiled(env, f'{env.stack.name}-*')
    if env.ops and not has_ops(env) and not cached:
        require_compiler(env.python)  # now, not after the long download
    title = 'torch and build tools: a 2 GB download, 1 to 10 minutes'
    env.pip(title, '-r', env.stack.file('build-'))
    others = env.stack.requirements()
    del others[env.stack.mmcv]
    title = 'mmengine, mmsegmentation, mmdetection, mmpretrain, test tools'
    ours = ('-r', ROOT / 'requirements/runtime.txt')
    dev = ('-r', ROOT / 'requirements/dev.txt')
    env.pip(f'{title}: a minute', *others.values(), *ours, *dev)
    install_mmcv(env)
    # Both stacks may build in one checkout.
    with locked(ROOT / '.venv-build.lock'):
        install_package(env)


def install_package(env: Environment) -> None:
    """Install mmscope in place, if it is absent or its op is out of date."""
    reason = why_no_compiler()
    if reason:
        say(f'{reason}: CPU runs use the slow `reference` scan')
    op_files = [OP_FOLDER / 'build.py', *OP_FOLDER.glob('csrc/*')]
    newest = max(p.stat().st_mtime for p in [ROOT / 'setup.py', *op_files])
    version = ''.join(env.version('torch').split('.')[:2])
    op_is_there = (OP_FOLDER / f'_C_torch{version}.abi3.so').is_file()
    ours = {'url': ROOT.as_uri(), 'dir_info': {'editable': True}}
    for origin in env.files('mmscope-*.dist-info/direct_url.json'):
        fresh = origin.stat().st_mtime > newest
        same = json.loads(origin.read_text()) == ours
        if fresh and same and (op_is_there or reason):
            return
    # Python would prefer what older versions built for itself alone.
    for stale in OP_FOLDER.glob('_C_torch*.cpython-*.so'):
        stale.unlink()
    title = 'mmscope itself, in place, with its C++ op: a minute'
    env.pip(title, '--no-build-isolation', '-e', ROOT)


def set_up(variables: Mapping[str, str]) -> None:
    """Make or refresh the environment that variables describe."""
    start, name = time.monotonic(), variables.get('STACK') or 'onedl'
    if name not in STACKS:
        known = ' or '.join(f'STACK={known}' for known in STACKS)
        raise SetupError(f'STACK={name!r} is unknown: use {known}')
    folder = ROOT / (variables.get('VENV') or f'.venv-{name}')
    ops, cuda = (variables.get(o) == '1' for o in ('OPS', 'MMCV_CUDA'))
    env = Environment(STACKS[name], folder, ops or cuda, cuda)
    with locked(folder.with_name(f'{folder.name}.lock')):
        prepare(env, variables.get('PYTHON'))
        env.ops = env.ops or has_ops(env)  # those that are there stay
        refresh(env)
    seconds = time.monotonic() - start
    say(f'{name} environment {folder} is ready ({seconds:.0f} s)')


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        set_up(os.environ)
    except SetupError as error:
        sys.exit(f'set-up stopped: {error}')
    except KeyboardInterrupt:
        print('set-up interrupted: run it again, it goes on from here')
        sys.exit(130)
