"""Random numbers that depend on the step, not on what ran before it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

LOADING, MODEL = 0, 1


class StepSeedHook(Hook):
    """Lets a resumed training go on with the numbers of an unbroken one.

    MMEngine restores weights, optimizer, schedule and the place in the data,
    but no random state: dropout, stochastic depth and augmentation would be
    drawn anew. Here every step of every process has a seed of its own, made
    of the run's seed, the rank and the step. With ``num_workers=0`` a resumed
    loss curve is the same; worker processes keep the order of the images and
    draw augmentations anew.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Seed every fetch of an iteration-based loop."""
        loop = runner.train_loop
        if hasattr(loop, 'dataloader_iterator'):
            loop.dataloader_iterator = _SeededFetches(
                loop.dataloader_iterator, runner
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the first fetch of an epoch-based loop."""
        seed_step(runner, LOADING)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seed what the model draws."""
        seed_step(runner, MODEL)


class _SeededFetches:
    """Iterator over batches that seeds before it fetches one."""

    def __init__(self, inner: Any, runner: Runner) -> None:
        self.inner = inner
        self.runner = runner

    def __iter__(self) -> _SeededFetches:
        return self

    def __next__(self) -> Any:
        seed_step(self.runner, LOADING)
        return next(self.inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def seed_step(runner: Runner, purpose: int) -> None:
    """Seed Python, NumPy and torch for ``LOADING`` or ``MODEL`` of a step."""
    entropy = [runner.seed, get_rank(), runner.iter, purpose]
    (seed,) = np.random.SeedSequence(entropy).generate_state(1)
    random.seed(int(seed))
    np.random.seed(int(seed))
    torch.manual_seed(int(seed))
