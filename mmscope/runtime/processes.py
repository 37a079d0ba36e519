"""How the processes of a job end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from torch import distributed


class Terminated(KeyboardInterrupt):
    """SIGTERM came; no handler of errors takes it for one."""


@contextmanager
def ending_cleanly(hint: str = '') -> Iterator[None]:
    """End a tool that is stopped with one line and the shell's status.

    SIGTERM unwinds the program as Ctrl-C does, so that files are closed and
    workers end; a second one kills. Workers that were forked inside die by
    it as they would without.

    Args:
        hint (str): Continues 'stopped by Ctrl-C', such as how to go on.
            Defaults to ''.

    Yields:
        None: The block runs inside. It can be a decorator as well.

    Raises:
        SystemExit: With status 130 after Ctrl-C and 143 after SIGTERM.
    """
    owner, got = os.getpid(), []

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != owner:
            os.kill(os.getpid(), number)
            return
        got.append(number)
        # Before we let go of what they are sending: they would complain.
        _end_workers()
        raise Terminated

    main = threading.current_thread() is threading.main_thread()
    handled = main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if handled:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException as error:
        # Where workers got the signal, too, their death is an error that
        # takes the place of ours.
        if not got and not isinstance(error, KeyboardInterrupt):
            raise
        _end_workers()
        name, number = ('SIGTERM', 15) if got else ('Ctrl-C', 2)
        print(f'stopped by {name}{hint}', file=sys.stderr, flush=True)
        raise SystemExit(128 + number) from None
    finally:
        if handled:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_workers() -> None:
    """Kill what this process forked, without anybody's complaint."""
    if threading.current_thread() is threading.main_thread():
        # torch raises where a worker of a data loader dies.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


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
