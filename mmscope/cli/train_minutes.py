"""What ``tools/benchmark.py --train-minutes`` does."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from mmengine.logging import MMLogger

from mmscope.benchmark.setting import describe_run, setting_line
from mmscope.benchmark.timed_training.images import Images, read_splits
from mmscope.benchmark.timed_training.learner import Learner
from mmscope.benchmark.timed_training.session import (
    USUAL,
    Pace,
    Session,
)
from mmscope.benchmark.timed_training.state import State, open_state
from mmscope.cli.gpu_arguments import gpu_device
from mmscope.errors import UserError
from mmscope.evaluation.loading import open_config
from mmscope.evaluation.tables import Column, format_table

DRY_BATCH = 4
# Of a dry run: images of each split, a few steps, and time enough for them on
# a busy machine.
DRY_IMAGES, DRY_MINUTES = 12, 30
DRY_PACE = Pace(probe_s=0.1, most_steps=2)
RESULT = (
    Column('config', 'model'),
    Column('epochs', 'epochs', '.1f'),
    Column('accuracy', 'held out, nobody exits', '.2f'),
    Column('test', 'test, best threshold', '.2f'),
    Column('how', 'steps by'),
)


def train_minutes(
    args: argparse.Namespace, tell: Callable[[str], None]
) -> str:
    """Train the models in turns; curves and sweeps are in the files.

    Raises:
        UserError: If there is no GPU, or data or a config is at fault.
    """
    minutes = DRY_MINUTES if args.dry_run else args.train_minutes
    deadline = time.monotonic() + 60 * minutes
    # A line for each parameter of each optimizer.
    MMLogger.get_current_instance().setLevel('WARNING')
    device = gpu_device(args)
    splits = read_splits(args.data)
    if args.dry_run:
        splits = {k: _some(images) for k, images in splits.items()}
    splits = {k: images.to(device) for k, images in splits.items()}
    batch = DRY_BATCH if args.dry_run else args.train_batch
    learners = [
        _learner(config, args, splits['train'], batch)
        for config in args.train_config
    ]
    setting = describe_run(device, args.dry_run, args.commit)
    path, minutes = Path(args.json), args.train_minutes
    state = open_state(path, setting, batch, minutes, args.again)
    pace = DRY_PACE if args.dry_run else USUAL
    session = Session(learners, splits, state, path, deadline, tell, pace)
    return result_table(session.run())


def _some(images: Images) -> Images:
    """Take a few images of all classes."""
    step = max(len(images) // DRY_IMAGES, 1)
    return images.pick(range(0, len(images), step))


def _learner(
    config: str, args: argparse.Namespace, images: Images, batch: int
) -> Learner:
    cfg = open_config(config, args.cfg_options)
    number = cfg.model.head.get('num_classes')
    if number != len(images.classes):
        raise UserError(
            f'{config} has a head of {number} classes, {args.data} has '
            f'{len(images.classes)}: {", ".join(images.classes[:5])} ...'
        )
    return Learner(Path(config).stem, cfg, images, batch)


def result_table(state: State) -> str:
    """Format what became of each model."""
    rows = []
    for run in state.runs.values():
        last = run.curve[-1] if run.curve else None
        test = [row['top1'] for row in run.sweeps.get('test', [])]
        rows.append(
            {
                'config': run.config,
                'epochs': last and last.epoch,
                'accuracy': last and last.accuracy,
                'test': max(test, default=None),
                'how': run.how or '-',
            }
        )
    setting = setting_line(state.setting)
    return f'{format_table(rows, RESULT)}\n\n{setting}'
