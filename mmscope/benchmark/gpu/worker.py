"""A process that does the steps which have no outcome yet.

Started by :mod:`supervisor`: a kernel that goes wrong takes the GPU from its
whole process, so the one that keeps the time has none.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings

from mmscope.benchmark.gpu.parts import PARTS
from mmscope.benchmark.gpu.processes import end_with
from mmscope.benchmark.gpu.record import Record
from mmscope.benchmark.gpu.scale import full_scale, tiny_scale
from mmscope.benchmark.gpu.steps import Poisoned, run_parts

# Exit status that asks for another worker.
AGAIN = 75


def main(arguments: list[str] | None = None) -> int:
    """Do what is left; the exit status says whether another one must go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('json')
    parser.add_argument('--deadline', type=float, required=True)
    parser.add_argument('--dry-run', action='store_true')
    parser.add_argument('--parts', nargs='+', default=list(PARTS))
    text = 'the supervisor, which may be gone before this is read'
    parser.add_argument('--end-with', type=int, required=True, help=text)
    args = parser.parse_args(arguments)
    end_with(args.end_with, is_parent=True)
    warnings.simplefilter('ignore')
    record = Record.read(args.json)
    try:
        run_parts(
            [PARTS[name] for name in args.parts],
            tiny_scale() if args.dry_run else full_scale(),
            record,
            args.deadline,
            lambda text: print(text, file=sys.stderr, flush=True),
        )
    except Poisoned:
        return AGAIN
    return 0


if __name__ == '__main__':
    status = main()
    sys.stderr.flush()
    # A lost GPU makes the interpreter's own end fail.
    os._exit(status)
