"""How the C library hands memory back, which costs CPU training a fifth."""

from __future__ import annotations

import ctypes

# mallopt's names for its settings, from malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Let glibc reuse large blocks instead of returning them to the kernel.

    PyTorch allocates each CPU tensor anew, and by default every large one is
    mapped, cleared page by page and unmapped again.

    Returns:
        bool: Whether the C library has and took the settings.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    # Older versions allow 32 MiB at most.
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in (2**30, 2**25))
