"""Print what is installed, what works, and what fixes the rest.

With --data CONFIG it opens every file of a config's data sets instead.

Needs none of mmscope's extras: run it with any environment's Python, in an
issue report first of all.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # an mmscope that is not installed counts too

# The first torch of the maintained stack.
MAINTAINED = (2, 4)
# What is imported -> its distribution in each stack.
STACKS = {
    'onedl': {
        'mmengine': 'onedl-mmengine',
        'mmcv': 'onedl-mmcv',
        'mmseg': 'onedl-mmsegmentation',
        'mmdet': 'onedl-mmdetection',
        'mmpretrain': 'onedl-mmpretrain',
    },
    'openmmlab': {
        'mmengine': 'mmengine',
        'mmcv': 'mmcv',
        'mmseg': 'mmsegmentation',
        'mmdet': 'mmdet',
        'mmpretrain': 'mmpretrain',
    },
}
# What mmscope itself imports: requirements/runtime.txt without torch.
RUNTIME = ('msgspec', 'pandas', 'scipy', 'tabulate', 'safetensors')
LIBRARIES = (
    *('numpy', 'torchvision', 'triton', 'mamba_ssm', 'causal_conv1d'),
    *RUNTIME,
)
BACKENDS = ('reference', 'cpu', 'triton', 'mamba_ssm')


@dataclass
class TorchState:
    """What torch says of itself and of this machine."""

    version: str | None = None
    cuda: str | None = None
    gpus: list[str] = field(default_factory=list)
    threads: int | None = None
    cpu_capability: str | None = None
    error: str | None = None


@dataclass
class OpsState:
    """Whether mmcv's ops load, and for which CUDA they were built."""

    works: bool
    cuda: str | None = None
    error: str | None = None


@dataclass
class Report:
    """What is installed and works; ``fixes`` follow from the rest."""

    mmscope: str | None
    mmscope_error: str | None
    python: str
    executable: str
    platform: str
    torch: TorchState
    stack: str
    hosts: dict[str, str | None]
    broken_hosts: dict[str, str]
    libraries: dict[str, str | None]
    mmcv_ops: OpsState
    # By backend the reason why it cannot run.
    scan: dict[str, str | None]
    fixes: list[str] = field(default_factory=list)


def version_of(distribution: str) -> str | None:
    """Return the version of an installed distribution, None if it is not."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def first_line(error: BaseException) -> str:
    """Return an exception's type and the first line of its text."""
    text = (str(error).splitlines() or [''])[0]
    return f'{type(error).__name__}: {text}'


def torch_report() -> TorchState:
    """Return the version of torch, its CUDA and the devices it sees."""
    try:
        import torch
    except Exception as error:
        return TorchState(error=first_line(error))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return TorchState(
        version=torch.__version__,
        cuda=torch.version.cuda,
        gpus=[torch.cuda.get_device_name(i) for i in range(count)],
        threads=torch.get_num_threads(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
    )


def hosts_report() -> tuple[str, dict[str, str | None]]:
    """Return which stack is installed, and the version of each host."""
    versions = {
        stack: {name: version_of(dist) for name, dist in packages.items()}
        for stack, packages in STACKS.items()
    }
    present = [name for name, found in versions.items() if any(found.values())]
    stack = present[0] if len(present) == 1 else 'both' if present else 'none'
    return stack, {
        name: ' and '.join(filter(None, (v[name] for v in versions.values())))
        or None
        for name in STACKS['onedl']
    }


def broken_hosts(versions: dict[str, str | None]) -> dict[str, str]:
    """Import every installed host; return those that fail, and why."""
    broken = {}
    for name in (name for name, found in versions.items() if found):
        try:
            importlib.import_module(name)
        except Exception as error:
            broken[name] = first_line(error)
    return broken


def mmcv_report() -> OpsState:
    """Return whether mmcv's ops load, and for which CUDA they were built."""
    try:
        ops = importlib.import_module('mmcv.ops')
    except Exception as error:
        return OpsState(False, error=first_line(error))
    cuda = ops.get_compiling_cuda_version()
    none = cuda.lower() == 'not available'
    return OpsState(True, cuda=None if none else cuda)


def scan_report() -> dict[str, str | None]:
    """Return each scan backend, with the reason if it cannot run.

    A backend counts as working if it runs on one of this machine's devices.
    """
    try:
        import torch

        from mmscope.ops import why_unavailable
    except Exception as error:
        return dict.fromkeys(BACKENDS, first_line(error))
    devices = ['cpu'] + ['cuda'] * torch.cuda.is_available()
    report: dict[str, str | None] = {}
    for backend in BACKENDS:
        reasons = [why_unavailable(backend, device) for device in devices]
        report[backend] = None if None in reasons else reasons[-1]
    return report


def pinned(file: str, distribution: str) -> str:
    """Return the tested requirement for a distribution, for a shell."""
    path = ROOT / f'requirements/{file}.txt'
    if path.is_file():  # there is none where a wheel was installed
        for line in path.read_text(encoding='utf-8').splitlines():
            if re.match(rf'{re.escape(distribution)}[=<>]', line):
                return shlex.quote(line)
    return distribution


def in_made_environment() -> bool:
    """Return whether `make setup` made the environment that runs."""
    return Path(sys.prefix).parent == ROOT


def wanted_stack(found: str, torch_version: str | None) -> str:
    """Return the stack that is there; without one, that of torch's age."""
    if found in STACKS:
        return found
    number = re.match(r'(\d+)\.(\d+)', torch_version or '')
    is_old = number and (int(number[1]), int(number[2])) < MAINTAINED
    return 'openmmlab' if is_old else 'onedl'


def install_command(stack: str, package: str, broken: bool = False) -> str:
    """Return the command that installs or repairs a package of a stack.

    In an environment that `make setup` made, it is that; in a user's own one
    it is pip, told to compile mmcv's ops against the torch that is there.
    """
    if in_made_environment():
        ops = ' OPS=1' if package == 'mmcv' else ''
        return f'make setup STACK={stack}{ops}'
    pin = pinned(stack, STACKS[stack][package])
    if package != 'mmcv':
        return f'pip install {pin}'
    # Both kinds of mmcv have one name and version: pip's cache mixes them up.
    how = '--no-build-isolation --no-cache-dir'
    if broken:
        how += ' --force-reinstall --no-deps'
    return f'MMCV_WITH_OPS=1 pip install {how} {pin}'


def library_command(stack: str, missing: Sequence[str]) -> str:
    """Return the command that installs what mmscope itself imports."""
    if in_made_environment():
        return install_command(stack, 'mmengine')
    pins = (pinned('runtime', name) for name in missing)
    return f'pip install {" ".join(pins)}'


def fixes(report: Report) -> Iterator[str]:
    """Give a line for each thing that is missing: what, and the command."""
    hosts, ops, gpus = report.hosts, report.mmcv_ops, report.torch.gpus
    if report.torch.version is None:
        yield f'torch does not import ({report.torch.error}): make setup'
    stack = wanted_stack(report.stack, report.torch.version)
    if report.stack == 'both':
        yield (
            'ERROR: both stacks are installed, and each overwrites files of '
            'the other: remove this environment, then make setup'
        )
    for name in (name for name, found in hosts.items() if found is None):
        yield f'{name} is absent: {install_command(stack, name)}'
    for name, error in report.broken_hosts.items():
        command = install_command(stack, name, broken=True)
        yield f'{name} does not import ({error}): {command}'
    if hosts['mmcv'] and not ops.works:
        command = install_command(stack, 'mmcv', broken=True)
        yield (
            'mmcv has no working ops, which detection alone needs '
            f'({ops.error}): {command}'
        )
    if gpus and ops.works and ops.cuda is None:
        yield (
            "mmcv's ops run on the CPU only, which detection on a GPU finds "
            'too little: make setup MMCV_CUDA=1 (needs nvcc)'
        )
    if missing := [n for n in RUNTIME if report.libraries[n] is None]:
        command = library_command(stack, missing)
        yield f'mmscope imports {", ".join(missing)}: {command}'
    if report.mmscope is None:
        yield f'mmscope does not import: {report.mmscope_error}'
    # Elsewhere a backend for GPUs is not missing, it has nothing to run on.
    for backend in BACKENDS if gpus else ('reference', 'cpu'):
        if reason := report.scan[backend]:
            yield f'scan backend {backend}: {reason}'


def collect() -> Report:
    """Return the whole report."""
    stack, hosts = hosts_report()
    version = error = None
    try:
        importlib.import_module('mmscope')
        version = importlib.import_module('mmscope.version').__version__
    except Exception as reason:
        error = first_line(reason)
    report = Report(
        mmscope=version,
        mmscope_error=error,
        python=platform.python_version(),
        executable=sys.executable,
        platform=platform.platform(),
        torch=torch_report(),
        stack=stack,
        hosts=hosts,
        broken_hosts=broken_hosts(hosts),
        libraries={name: version_of(name) for name in LIBRARIES},
        mmcv_ops=mmcv_report(),
        scan=scan_report(),
    )
    report.fixes = list(fixes(report))
    return report


def rows(report: Report) -> Iterator[tuple[str, str]]:
    """Give the lines of the table that is printed."""
    torch, ops = report.torch, report.mmcv_ops
    yield 'mmscope', report.mmscope or 'does not import'
    yield 'python', f'{report.python} ({report.executable})'
    yield 'platform', report.platform
    yield 'torch', torch.version or torch.error
    if torch.version:
        yield 'CUDA of torch', torch.cuda or 'none'
        yield 'GPUs', ', '.join(torch.gpus) or 'none'
        yield 'CPU', f'{torch.threads} threads, {torch.cpu_capability}'
    for name, found in {**report.hosts, **report.libraries}.items():
        yield name, found or 'absent'
    yield 'stack', report.stack
    state = f'yes, CUDA {ops.cuda}' if ops.cuda else 'yes, CPU only'
    yield 'mmcv ops', state if ops.works else f'no ({ops.error})'
    for backend, reason in report.scan.items():
        yield f'scan {backend}', f'no: {reason}' if reason else 'works'


def main(argv: list[str] | None = None) -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument(
        '--data', metavar='CONFIG', help='check data sets, see --data --help'
    )
    argv = sys.argv[1:] if argv is None else argv
    if any(word.partition('=')[0] == '--data' for word in argv):
        importlib.import_module('mmscope.cli.check_data').main(argv)
        return
    report_as_json = parser.parse_args(argv).json
    # Some hosts print when they are imported: not into the JSON.
    with contextlib.redirect_stdout(sys.stderr):
        report = collect()
    if report_as_json:
        print(json.dumps(asdict(report), indent=2))
        return
    table = list(rows(report))
    width = max(len(name) for name, _ in table)
    for name, text in table:
        print(f'{name:<{width}}  {text}')
    print('\nTo do:' if report.fixes else '\nNothing is missing.')
    for line in report.fixes:
        print(f'- {line}')
