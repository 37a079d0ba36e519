"""The demo's training: the real config, shortened, and told in few lines."""

from __future__ import annotations

import argparse
import json
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmscope.evaluation.loading import open_config
from mmscope.runtime import StepSeedHook, alone_in, latest_checkpoint
from mmscope.whole_files import write_whole

CONFIG = 'ade20k/mambascope_ti_upernet'
DONE = 'demo_recipe.json'


def overrides(args: argparse.Namespace, data: Path) -> dict[str, Any]:
    """What the demo changes in the real config, as --cfg-options takes it.

    ``data`` is a folder ``ADEChallengeData2016``.
    """
    side, crop = (4 * args.crop, args.crop), (args.crop, args.crop)
    warmup = max(1, args.iters // 10)
    changes = {
        'model.backbone.init_cfg': None,
        'model.backbone.img_size': args.crop,
        'model.data_preprocessor.size': crop,
        'train_dataloader.batch_size': args.batch_size,
        'train_dataloader.dataset.pipeline.2.scale': side,
        'train_dataloader.dataset.pipeline.3.crop_size': crop,
        'test_dataloader.dataset.pipeline.1.scale': side,
        'optim_wrapper.optimizer.lr': 3e-3,
        'param_scheduler.0.end': warmup,
        'param_scheduler.1.begin': warmup,
        'param_scheduler.1.end': args.iters,
        'train_cfg.max_iters': args.iters,
        'default_hooks.logger.interval': 10,
        'default_hooks.checkpoint.interval': max(1, args.iters // 5),
        'default_hooks.checkpoint.save_best': None,
        # Of one alone nothing is left while the next is written.
        'default_hooks.checkpoint.max_keep_ckpts': 2,
    }
    for loader in ('train_dataloader', 'test_dataloader'):
        changes[f'{loader}.dataset.data_root'] = str(data)
        # Two cores are busy with the model; loading takes a few per cent.
        changes[f'{loader}.num_workers'] = 0
        changes[f'{loader}.persistent_workers'] = False
    return {**changes, **args.cfg_options}


def demo_config(changes: dict[str, Any], work_dir: Path) -> Config:
    """Load the real config with the demo's changes.

    Validation in between is left out: the sweep afterwards scores all
    thresholds at once.
    """
    cfg = open_config(CONFIG, changes)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.work_dir = str(work_dir)
    return cfg


class _QuietRunner(Runner):
    """Keeps the whole config and twelve losses a step in the log file."""

    def build_logger(self, *args: object, **kwargs: object) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        logger.handlers[0].setLevel('ERROR')
        return logger


class _Progress(Hook):
    """One short line every few steps; the log file has everything."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.start = None

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        step = runner.iter + 1
        if self.start is None:
            self.start = (time.perf_counter(), step)
        since, first = self.start
        if step % self.interval and step != runner.max_iters:
            return
        seconds = (time.perf_counter() - since) / max(1, step - first)
        left = seconds * (runner.max_iters - step)
        print(
            f'  step {step:>4} of {runner.max_iters}: '
            f'loss {float(outputs["loss"].detach()):6.3f}, '
            f'fine accuracy {float(outputs["decode.acc_seg"]):5.1f} %, '
            f'coarse {float(outputs["coarse_decode.acc_seg"]):5.1f} %, '
            f'{left:4.0f} s to go',
            flush=True,
        )


def train(cfg: Config, recipe: dict[str, Any]) -> Path:
    """Train, or go on, unless the training of that recipe is finished."""
    folder = Path(cfg.work_dir)
    mark, text = folder / DONE, json.dumps(recipe, indent=1, default=str)
    with alone_in(folder):
        is_another = mark.is_file() and mark.read_text() != text
    if is_another:
        # Renamed first: a half removed one has no mark.
        old = folder.with_name(f'.{folder.name}.old')
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        shutil.rmtree(old)
    with alone_in(folder):
        if not mark.is_file():
            write_whole(mark, text)
        return _train(cfg, folder)


def _train(cfg: Config, folder: Path) -> Path:
    last = folder / f'iter_{cfg.train_cfg.max_iters}.pth'
    if zipfile.is_zipfile(last):
        print(f'  finished before: {last}')
        return last
    if found := latest_checkpoint(folder):
        print(f'  going on from {found}')
        cfg.resume, cfg.load_from = True, found
    runner = _QuietRunner.from_cfg(cfg)
    runner.register_hook(StepSeedHook())
    interval = cfg.default_hooks.logger.interval
    runner.register_hook(_Progress(interval), 'LOW')
    runner.train()
    return last
