"""The frame of training and testing: config, runner, weights, errors."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import mmscope  # noqa: F401
from mmscope.datasets import ClassCheckHook
from mmscope.datasets.coco_metric import check_evaluators
from mmscope.errors import user_errors
from mmscope.models.layers import unwrap_model
from mmscope.runtime import (
    alone_in,
    check_host,
    disk_errors,
    is_first_process,
    leaving_together,
    load_config,
    load_model_weights,
    reading_plain,
)

# The complete config, and sentences for its log.
Prepared = tuple[Config, list[str]]


def open_run(args: argparse.Namespace) -> Config:
    """Read the config of a run.

    Raises:
        UserError: If the file, an override, the host or an evaluator is at
            fault.
    """
    options = args.cfg_options, args.work_dir, args.launcher, args.local_rank
    cfg = load_config(args.config, *options)
    check_host(cfg)
    check_evaluators(cfg)
    return cfg


def run_host(
    task: str,
    prepare: Callable[[], Prepared],
    full_disk: str,
    hooks: Sequence[type[Hook]] = (),
) -> None:
    """Run a task of MMEngine's runner; every user's fault is one sentence.

    The task is 'train' or 'test'; ``full_disk`` says what to do then. Classes
    of model, data and checkpoint are compared in every run.
    """
    with leaving_together(), reading_plain():
        # It holds the runner, and lets go of it before the processes part.
        _run(task, prepare, full_disk, hooks)


def _run(
    task: str,
    prepare: Callable[[], Prepared],
    full_disk: str,
    hooks: Sequence[type[Hook]],
) -> None:
    with user_errors():
        cfg, notes = prepare()
    only = task == 'train' and is_first_process(cfg.launcher)
    alone = alone_in(cfg.work_dir) if only else nullcontext()
    with user_errors(), disk_errors(cfg.work_dir, full_disk), alone:
        runner = _built(task, cfg, hooks)
        for note in notes:
            runner.logger.info(note)
        getattr(runner, task)()


def _built(task: str, cfg: Config, hooks: Sequence[type[Hook]]) -> Runner:
    # Wrong names and arguments in the config surface here.
    with user_errors(ValueError, KeyError, TypeError):
        runner = Runner.from_cfg(cfg)
        for hook in (ClassCheckHook, *hooks):
            if not any(isinstance(there, hook) for there in runner.hooks):
                runner.register_hook(hook())
        # MMEngine would keep random weights where a checkpoint has none.
        if cfg.get('load_from') and (task == 'test' or cfg.get('resume')):
            model = unwrap_model(runner.model)
            if unused := load_model_weights(model, cfg.load_from):
                runner.logger.warning(unused)
    return runner
