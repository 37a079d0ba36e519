"""Peak memory of one forward."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import torch

from mmscope.evaluation.interleaved_timing import Run, synchronize

STATUS = Path('/proc/self/status')
CLEAR_REFS = Path('/proc/self/clear_refs')
# Written there, it sets the kernel's high-water mark back to the present.
RESET_PEAK = '5'
GPU_METHOD = "growth of the allocator's peak in one forward"
CPU_METHOD = 'growth of the resident set in one forward'
NO_METHOD = 'not measured: this system cannot reset the peak resident set'
# Neither the last byte nor all that is free now.
USABLE = 0.7


def peak_growth(run: Run, device: torch.device) -> int | None:
    """Measure the bytes that one forward needs beside weights and images.

    On a GPU that is the growth of the allocator's peak; on Linux CPUs that
    of the resident set, after freed memory went back to the kernel; else
    None. It ran once before.
    """
    if device.type == 'cuda':
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != 'cpu' or not _reset_peak():
        return None
    before = _status('VmRSS')
    run()
    return max(_status('VmHWM') - before, 0)


def memory_method(device: torch.device) -> str:
    """Say how :func:`peak_growth` measures on a device."""
    if device.type == 'cuda':
        return GPU_METHOD
    works = device.type == 'cpu' and _reset_peak()
    return CPU_METHOD if works else NO_METHOD


def free_bytes(device: torch.device) -> int | None:
    """Measure what a forward may take: seven tenths of what is free."""
    if device.type == 'cuda':
        return int(USABLE * torch.cuda.mem_get_info(device)[0])
    info = Path('/proc/meminfo')
    if device.type != 'cpu' or not info.exists():
        return None
    found = re.search(r'MemAvailable:\s+(\d+) kB', info.read_text())
    return int(USABLE * 1024 * int(found[1])) if found else None


def out_of_memory(error: Exception) -> str:
    """Say that memory lacked, and where; '' for any other failure."""
    text = str(error)
    lacks = re.search("out of memory|can't allocate memory", text.lower())
    if not (lacks and isinstance(error, RuntimeError)):
        return ''
    return f'out of memory: {text.splitlines()[0]}'


def _reset_peak() -> bool:
    """Give freed memory back and start a new high-water mark."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is None or not STATUS.exists():
        return False
    trim(0)
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _status(key: str) -> int:
    found = re.search(rf'{key}:\s+(\d+) kB', STATUS.read_text())
    return 1024 * int(found[1]) if found else 0
