"""Processes that end with the one that wants them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence

POLL_S = 0.5


def end_with(pid: int, is_parent: bool = False) -> None:
    """End this process when another one is gone.

    Args:
        pid (int): Of the other one.
        is_parent (bool): Whether it started this one, which then also ends
            where another has become its parent: one that nobody waits for
            keeps its number, and one that is gone may give it to a new one.
            Defaults to False.
    """
    watch = threading.Thread(target=_watch, args=(pid, is_parent), daemon=True)
    watch.start()


def _watch(pid: int, is_parent: bool) -> None:
    while True:
        if is_parent and os.getppid() != pid:
            os._exit(1)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(POLL_S)


def run_group(
    command: Sequence[str], env: dict[str, str], timeout_s: float
) -> tuple[int, str]:
    """Run a command whose children end with it, whatever happens.

    Returns:
        tuple[int, str]: Exit status, and what it and they printed.

    Raises:
        TimeoutError: If it takes longer; the text ends as its output does.
    """
    process = subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        said, _ = process.communicate()
        raise TimeoutError(
            f'not done in {timeout_s:.0f} s: {said[-500:]}'
        ) from None
    finally:
        _kill(process)
    return process.returncode, said


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
