"""The card, the versions, and the two ceilings that everything stays under."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from typing import Any

import torch

from mmscope.benchmark.gpu.graphs import device_seconds
from mmscope.benchmark.gpu.record import Skip
from mmscope.benchmark.gpu.rival import why_no_rival
from mmscope.benchmark.gpu.scale import Scale
from mmscope.benchmark.gpu.steps import Step
from mmscope.benchmark.models import why_no_deit
from mmscope.ops import BACKENDS, why_unavailable

PACKAGES = (
    'torch',
    'triton',
    'numpy',
    'mmengine',
    'onedl-mmengine',
    'mmcv',
    'mmcv-lite',
    'onedl-mmcv',
    'mmpretrain',
    'onedl-mmpretrain',
    'mamba-ssm',
)
TOOLS = ('nvidia-smi', 'nvcc', 'ncu', 'compute-sanitizer', 'c++')
SMI_FIELDS = (
    'name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit,'
    'temperature.gpu'
)
Facts = dict[str, Any]
# Bytes of the copied tensor and side of the multiplied matrices.
COPIED, SIDE = {'cuda': 2**32, 'cpu': 2**16}, {'cuda': 8192, 'cpu': 32}


def machine_steps(scale: Scale) -> Iterator[Step]:
    """List what is asked: versions, what is there, the driver, ceilings."""
    yield Step('versions', partial(_versions, scale))
    yield Step('what is here', partial(_present, scale))
    yield Step('driver', _driver)
    yield Step('copy', partial(_copy, scale))
    yield Step('matrix product', partial(_product, scale))


def _versions(scale: Scale, left: float) -> list[Facts]:
    found = {'python': platform.python_version(), 'cuda': torch.version.cuda}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return [found]


def _present(scale: Scale, left: float) -> list[Facts]:
    """Name what can run here, and why the rest cannot."""
    found = {
        f'backend {name}': why_unavailable(name, scale.device) or 'runs'
        for name in BACKENDS
    }
    found['DeiT'] = why_no_deit() or 'runs'
    found['selective_scan_cuda'] = why_no_rival() or 'runs'
    for name in TOOLS:
        found[name] = 'found' if shutil.which(name) else 'not found'
    if scale.device.type == 'cuda':
        properties = torch.cuda.get_device_properties(scale.device)
        found |= {
            'card': properties.name,
            'capability': f'{properties.major}.{properties.minor}',
            'multiprocessors': properties.multi_processor_count,
            'memory_gib': properties.total_memory / 2**30,
            'flash attention': torch.backends.cuda.flash_sdp_enabled(),
        }
    return [found]


def _driver(left: float) -> list[Facts]:
    if shutil.which('nvidia-smi') is None:
        raise Skip('nvidia-smi is not here')
    done = subprocess.run(
        ['nvidia-smi', f'--query-gpu={SMI_FIELDS}', '--format=csv,noheader'],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    values = done.stdout.splitlines()[0].split(', ')
    return [dict(zip(SMI_FIELDS.split(','), values, strict=True))]


def _copy(scale: Scale, left: float) -> list[Facts]:
    """Measure the memory's speed, bytes read and written both counted."""
    count = COPIED[scale.device.type]
    source = torch.empty(count, dtype=torch.uint8, device=scale.device)
    source.random_(0, 255)
    target = torch.empty_like(source)
    run = partial(target.copy_, source)
    seconds = device_seconds(run, scale.device, scale.repeats)
    return [{'copy_tb_s': 2 * count / seconds / 1e12}]


def _product(scale: Scale, left: float) -> list[Facts]:
    """Measure a large matrix product in bfloat16, on random data."""
    side = SIDE[scale.device.type]
    a, b = torch.randn(2, side, side, device=scale.device).bfloat16()
    run = partial(torch.mm, a, b)
    seconds = device_seconds(run, scale.device, scale.repeats)
    return [{'product_tflop_s': 2 * side**3 / seconds / 1e12}]
