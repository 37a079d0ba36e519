"""What ``tools/benchmark.py --gpu-first`` does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from mmscope.benchmark.gpu.report import summary
from mmscope.benchmark.gpu.supervisor import Order, run
from mmscope.benchmark.setting import describe_run
from mmscope.cli.gpu_arguments import gpu_device


def gpu_first(args: argparse.Namespace, tell: Callable[[str], None]) -> str:
    """Run all parts; the summary is for people, the numbers are in the file.

    Raises:
        UserError: If there is no GPU, or the file of results is none.
    """
    setting = describe_run(gpu_device(args), args.dry_run, args.commit)
    order = Order(
        Path(args.json),
        setting,
        args.parts,
        args.dry_run,
        args.again,
        # A busy machine must not make a dry run fail.
        **({'total_s': 3600.0} if args.dry_run else {}),
    )
    return summary(run(order, tell))
