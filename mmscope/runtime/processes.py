"""How the processes of a job end."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed


@contextmanager
def leaving_together() -> Iterator[None]:
    """End the process group before the interpreter ends.

    A DDP model holds its process group, and a runner, its hooks and its
    model hold each other, so the group's threads outlive
    ``destroy_process_group`` until the garbage is collected. A gloo thread
    that is still letting go of the last message while the interpreter shuts
    down is ended by it in the middle of C++ code, which aborts the process
    ("terminate called without an active exception"). So what the block left
    is collected first, then all processes meet, then the group is destroyed
    and its threads joined.

    After an error nobody waits: other processes may be anywhere, and the
    launcher ends them.

    Yields:
        None: The block runs inside; it must keep the runner in a function
        of its own.
    """
    yield
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    gc.collect()
    distributed.barrier()
    distributed.destroy_process_group()
    gc.collect()
