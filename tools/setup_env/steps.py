"""The steps of set-up, and the loop that repeats only what is needed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .environment import Environment, say
from .mmcv_wheels import MmcvWheels
from .stacks import (
    ROOT,
    SetupError,
    choose_python,
    describe,
    locked,
    python_version,
    read_requirements,
    require_compiler,
)

DISK_NEEDED = 8e9  # bytes: torch and its CUDA libraries take most of them
DEV_FILE = ROOT / 'requirements/dev.txt'
SOURCES = ROOT / 'mmscope/ops/csrc'
HOSTS = ('mmseg.models', 'mmpretrain.models', 'mmdet.models')


@dataclass(frozen=True)
class Step:
    """One step of set-up.

    Args:
        name (str): Stem of its stamp and its log.
        note (str): What it does, and how long that takes.
        inputs (tuple): Texts that the result depends on.
        install (Callable): Does it. Its argument is True where files that
            pip believes to be there are broken.
        modules (tuple): What can be imported afterwards.
        files (Callable): Returns False where a file of it is missing.
    """

    name: str
    note: str
    inputs: tuple[str, ...]
    install: Callable[[bool], None]
    modules: tuple[str, ...] = ()
    files: Callable[[], bool] = lambda: True


def digest(parts: Sequence[str]) -> str:
    """Return a short hash of texts."""
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:16]


def prepare(env: Environment, wanted: str | None) -> None:
    """Make the virtual environment, or check the one that is there.

    Args:
        env (Environment): Where it is.
        wanted (str | None): The user's ``PYTHON``.

    Raises:
        SetupError: If the Python is refused or venv does not work.
    """
    present = python_version(env.python)
    if present and wanted and python_version(wanted) not in (present, None):
        choose_python(env.stack, wanted)  # an unsupported one is refused
        raise SetupError(
            f'{env.folder} was made with Python {describe(present)}, and '
            f'PYTHON={wanted} asks for another: remove that folder, or give '
            'VENV=<another folder>.'
        )
    if present and env.output('import pip; print(pip.__version__)'):
        choose_python(env.stack, str(env.python))
        return
    python = choose_python(env.stack, wanted)
    say(f'making {env.folder} with {python}')
    shutil.rmtree(env.folder, ignore_errors=True)
    env.run('venv', [python, '-m', 'venv', env.folder])


def install_hosts(env: Environment, repair: bool) -> None:
    """Install the hosts, over broken files where asked to."""
    if repair:
        exact = ('--force-reinstall', '--no-deps')
        env.pip('hosts', *exact, *env.stack.host_requirements)
    env.pip('hosts', '-r', env.stack.hosts_file)


def install_torch(env: Environment, repair: bool) -> None:
    """Install torch and the build tools, if they fit on the disk."""
    free = shutil.disk_usage(env.folder).free
    if free < DISK_NEEDED and env.broken(['torch']):
        raise SetupError(
            f'{free / 1e9:.1f} GB are free for {env.folder}, and torch with '
            f'its libraries needs about {DISK_NEEDED / 1e9:.0f} GB.'
        )
    exact = ('--force-reinstall', '--no-deps') if repair else ()
    env.pip('torch', *exact, '-r', env.stack.build_file)


def op_file(env: Environment) -> str:
    """Return the name of the compiled op's file for this environment."""
    pins = read_requirements(env.stack.build_file)
    torch = next(pin for pin in pins if pin.startswith('torch=='))
    major, minor = torch.removeprefix('torch==').split('.')[:2]
    return f'_C_torch{major}{minor}.abi3.so'


def op_is_there(env: Environment) -> bool:
    """Return whether the op is built; True where it cannot be."""
    if shutil.which(os.environ.get('CXX') or 'c++') is None:
        say('no C++ compiler: CPU runs use the slow `reference` scan')
        return True
    return (SOURCES.parent / op_file(env)).is_file()


def install_package(env: Environment) -> None:
    """Install mmscope in place, and compile its op."""
    # Both stacks may build in one checkout.
    with locked(ROOT / '.venv-build.lock'):
        # Python would prefer what older versions built for itself alone.
        for stale in SOURCES.parent.glob('_C_torch*.cpython-*.so'):
            stale.unlink()
        env.pip('mmscope', '--no-build-isolation', '-e', ROOT)


def source_texts() -> tuple[str, ...]:
    """Return all that the installed package is built from."""
    files = [ROOT / 'setup.py', SOURCES.parent / 'build.py']
    files.append(ROOT / 'mmscope/version.py')
    files += sorted(SOURCES.glob('*'))
    return tuple(f'{path.name}\n{path.read_text()}' for path in files)


def mmcv_step(env: Environment, base: tuple[str, ...]) -> Step:
    """Return the step that installs mmcv, with compiled ops or without."""
    wheels, requirement = MmcvWheels, env.stack.mmcv_requirement
    if not env.ops:
        return Step(
            'mmcv',
            'mmcv without compiled ops: seconds (detection needs OPS=1, as '
            'does the original mmsegmentation)',
            (*base, requirement, 'without ops'),
            lambda repair: wheels(env).install_without_ops(),
            ('mmcv.transforms',),
        )
    return Step(
        'mmcv',
        'mmcv with its ops: seconds if cached, else 10 to 20 minutes',
        (*base, requirement, f'cuda {env.cuda}'),
        lambda repair: wheels(env).install(),
        ('mmcv.ops',),
    )


def keep_ops(env: Environment) -> None:
    """Ask for compiled ops where they are there already."""
    wanted, env.ops = env.ops, True
    mmcv = next(step for step in plan(env) if step.name == 'mmcv')
    env.ops = wanted or is_done(env, mmcv)


def plan(env: Environment) -> list[Step]:
    """Return the steps of a stack, in the order that works."""
    stack = env.stack
    version = describe(python_version(env.python) or ())
    base = (version, *read_requirements(stack.build_file))
    return [
        Step(
            'torch',
            'torch and build tools: a 2 GB download, 1 to 10 minutes',
            base,
            lambda repair: install_torch(env, repair),
            ('torch', 'torchvision'),
        ),
        mmcv_step(env, base),
        Step(
            'hosts',
            'mmengine, mmsegmentation, mmdetection, mmpretrain: a minute',
            (*base, *stack.host_requirements),
            lambda repair: install_hosts(env, repair),
            HOSTS if env.ops else stack.without_ops,
        ),
        Step(
            'dev',
            'test tools: seconds',
            (*base, *read_requirements(DEV_FILE)),
            lambda repair: env.pip('dev', '-r', DEV_FILE),
            ('pytest', 'hypothesis'),
        ),
        Step(
            'mmscope',
            'mmscope itself, in place, with its C++ op: a minute',
            (*base, *source_texts()),
            lambda repair: install_package(env),
            files=lambda: op_is_there(env),
        ),
    ]


def refresh(env: Environment) -> bool:
    """Run the steps that are not up to date.

    Args:
        env (Environment): The environment, already made by `prepare`.

    Returns:
        bool: Whether anything had to be done.

    Raises:
        SetupError: If a step fails, or what it installed does not import.
    """
    remove_foreign(env)
    steps = plan(env)
    modules = [name for step in steps for name in step.modules]
    # All imports in one process; step by step only if something is wrong.
    if all(is_done(env, step) for step in steps):
        if not env.broken(modules):
            return False
    elif env.ops and not MmcvWheels.any_cached(env.stack):
        require_compiler(env.python)  # now, not after the long download
    for number, step in enumerate(steps, start=1):
        title = f'[{number}/{len(steps)}] {step.name}'
        broken = env.broken(step.modules) if is_done(env, step) else {}
        if is_done(env, step) and not broken:
            say(f'{title}: up to date')
            continue
        for name, error in broken.items():
            say(f'{title}: {name} is broken ({error})')
        say(f'{title}: {step.note}')
        run_step(env, step, repair=bool(broken))
    return True


def stamp_path(env: Environment, step: Step) -> Path:
    """Return the file that holds a step's digest once it is done."""
    return env.state / f'{step.name}.stamp'


def is_done(env: Environment, step: Step) -> bool:
    """Return whether a step was done with the same inputs."""
    stamp = stamp_path(env, step)
    same = stamp.exists() and stamp.read_text() == digest(step.inputs)
    return same and step.files()


def run_step(env: Environment, step: Step, repair: bool) -> None:
    """Do a step, check what it installed, and leave its stamp."""
    stamp = stamp_path(env, step)
    stamp.unlink(missing_ok=True)
    step.install(repair)
    broken = env.broken(step.modules)
    if broken:
        errors = '; '.join(f'{k}: {v}' for k, v in broken.items())
        raise SetupError(
            f'{step.name} was installed and does not import ({errors}). Log: '
            f'{env.state}/{step.name}.log'
        )
    stamp.write_text(digest(step.inputs))


def remove_foreign(env: Environment) -> None:
    """Uninstall packages of the other stack, which broke files of this."""
    foreign = env.foreign()
    if foreign:
        say(f'removing packages of the other stack: {", ".join(foreign)}')
        command = [env.python, '-m', 'pip', 'uninstall', '-y', *foreign]
        env.run('foreign', command)
