"""What a measurement must name beside its numbers."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from mmscope.benchmark.files import Setting
from mmscope.ops import available_backends, cpu_isa

ROOT = Path(__file__).resolve().parents[2]
DTYPES = {
    'float32': torch.float32,
    'bfloat16': torch.bfloat16,
    'float16': torch.float16,
}
# Load average a core above which something else is running, too.
BUSY = 0.5
SOURCES = ('.py', '.cpp', '.h', '.cu')
HOSTS = ('onedl-mmpretrain', 'mmpretrain')
# Two results belong together if these facts are equal.
SAME = ('device', 'source', 'torch', 'dry_run')


def describe_setting(
    device: torch.device | str = 'cpu',
    dtype: str = 'float32',
    backend: str = 'auto',
) -> Setting:
    """Describe machine, versions and commit.

    Args:
        device (torch.device | str): Where models run. Defaults to 'cpu'.
        dtype (str): Of weights and images. Defaults to 'float32'.
        backend (str): Of the scan, as asked for. Defaults to 'auto'.

    Returns:
        dict: ``machine``, ``instruction_set`` (of our operators),
        ``cpu_capability`` (of PyTorch), ``cores``, ``threads``, ``load``
        (the last minute's load average: above 0.5 a core something else
        runs, too), ``device``, ``dtype``, ``backend``, ``backends`` (those
        that can run there), ``torch``, ``mmpretrain``, ``commit``.
    """
    device = torch.device(device)
    on_gpu = device.type == 'cuda'
    return dict(
        machine=_processor(),
        instruction_set=cpu_isa(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 2),
        device=torch.cuda.get_device_name(device) if on_gpu else device.type,
        dtype=dtype,
        backend=backend,
        backends=list(available_backends(device)),
        torch=torch.__version__,
        mmpretrain=_version(),
        commit=commit(),
    )


def describe_run(
    device: torch.device, dry_run: bool, name: str | None
) -> Setting:
    """Describe a run that may be gone on with: ``source`` is of its code."""
    setting = describe_setting(device, 'bfloat16')
    setting |= {'source': source_hash(), 'dry_run': dry_run}
    return setting if name is None else setting | {'commit': name}


def is_same_setting(old: Setting, new: Setting) -> bool:
    """Tell whether card, code, torch and kind of run are equal."""
    return all(old.get(key) == new.get(key) for key in SAME)


def commit(checkout: str | Path = ROOT) -> str:
    """Name a checkout's commit, '-dirty' if it was edited, or 'unknown'."""
    try:
        described = subprocess.run(
            ['git', 'describe', '--always', '--dirty', '--abbrev=12'],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        # A machine without git.
        return 'unknown'
    return described.stdout.strip() or 'unknown'


def source_hash(checkout: str | Path = ROOT) -> str:
    """Tell versions of the package apart, in a repository or not.

    Twelve digits of a SHA-256 over its Python and C++ files.
    """
    digest = hashlib.sha256()
    package = Path(checkout) / 'mmscope'
    for path in sorted(package.rglob('*')):
        if path.suffix in SOURCES and path.is_file():
            digest.update(path.relative_to(package).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [x.split(':', 1)[1].strip() for x in lines if 'model name' in x]
    return names[0] if names else platform.processor() or platform.machine()


def _version() -> str | None:
    for name in HOSTS:
        try:
            return f'{name} {metadata.version(name)}'
        except metadata.PackageNotFoundError:
            continue
    return None


def setting_line(setting: Setting) -> str:
    """Format a setting, lists joined."""
    return ', '.join(
        f'{key}: {"+".join(value) if isinstance(value, list) else value}'
        for key, value in setting.items()
    )


def noise_note(setting: Setting) -> str:
    """Warn if the machine was busy when it was described; else ''."""
    load, cores = setting['load'], setting['cores']
    if load <= BUSY * (cores or 1):
        return ''
    return (
        f'NOISY MACHINE: load average {load} on {cores} cores before the '
        'first measurement; ratios hold better than times, neither is worth '
        'publishing'
    )
