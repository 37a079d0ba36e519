"""What ``tools/benchmark.py --gpu-first`` does."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from pathlib import Path

import torch

from mmscope.benchmark.gpu.record import RecordError
from mmscope.benchmark.gpu.report import summary
from mmscope.benchmark.gpu.supervisor import Order, run
from mmscope.benchmark.setting import describe_run
from mmscope.errors import UserError


def gpu_first(args: argparse.Namespace, tell: Callable[[str], None]) -> str:
    """Run all parts and describe what came out.

    Args:
        args (argparse.Namespace): Command line.
        tell (Callable): Gets a line an event.

    Returns:
        str: A summary for people; the numbers are in the file.

    Raises:
        UserError: If there is no GPU, or the file of results is none.
    """
    device = torch.device('cpu' if args.dry_run else 'cuda')
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise UserError(
            '--gpu-first, but torch sees no GPU: run it on a machine with one '
            'and its driver, or try it with --dry-run'
        )
    setting = describe_run(device, args.dry_run, args.commit)
    order = Order(
        Path(args.json),
        setting,
        args.parts,
        args.dry_run,
        args.again,
        # A busy machine must not make a dry run fail.
        **({'total_s': 3600.0} if args.dry_run else {}),
    )
    # A time limit sends this; the worker must not outlive it.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return summary(run(order, tell))
    except RecordError as error:
        raise UserError(str(error)) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
