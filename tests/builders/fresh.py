"""Code in interpreters that have imported torch and MMEngine, and no more."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from multiprocessing.connection import Connection

CONTEXT = multiprocessing.get_context('forkserver')
# A process starts as a copy of one that has paid for these imports.
CONTEXT.set_forkserver_preload(['torch', 'mmengine.registry'])


def run_fresh(code: str, *args: str, seconds: float = 120) -> str:
    """Run code as a script of its own; return its traceback, '' for none."""
    mine, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=(code, args, theirs))
    process.start()
    theirs.close()
    try:
        if not mine.poll(seconds):
            return f'no end after {seconds} s'
        return mine.recv()
    except EOFError:
        process.join()
        return f'ended by {process.exitcode}'
    finally:
        process.kill()
        process.join()
        mine.close()


def _run(code: str, args: tuple[str, ...], told: Connection) -> None:
    sys.argv[1:] = args
    # What hosts print is none of the test's.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        exec(compile(code, '<fresh>', 'exec'), {'__name__': '__main__'})
    except BaseException:
        told.send(traceback.format_exc()[-2000:])
    else:
        told.send('')
