"""Train a config of any of the three hosts.

    python tools/train.py configs/ade20k/mambascope_ti_upernet.py
    tools/dist_train.sh configs/ade20k/mambascope_ti_upernet.py 4

The host (mmsegmentation, mmdetection or mmpretrain) is the config's
``default_scope``.
"""

from __future__ import annotations

import argparse
import logging
from functools import partial

from mmengine.config import Config
from mmengine.runner import Runner

import mmscope  # noqa: F401
from mmscope.cli.arguments import add_common_arguments
from mmscope.datasets.coco_metric import check_evaluators
from mmscope.errors import UserError, user_errors
from mmscope.models.layers import unwrap_model
from mmscope.runtime import (
    StepSeedHook,
    StripWrappersHook,
    adapt_to_machine,
    batch_note,
    check_host,
    check_pretrained,
    disk_errors,
    drop_pretrained,
    ending_cleanly,
    latest_checkpoint,
    leaving_together,
    load_config,
    load_model_weights,
    read_checkpoint,
    set_exit_threshold,
    use_amp,
)

FULL_DISK = (
    'Free some space or name another folder with --work-dir; --resume goes '
    'on from the last complete checkpoint'
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the newest in the work '
        'directory if none is named',
    )
    parser.add_argument(
        '--amp', action='store_true', help='bfloat16 mixed precision (GPU)'
    )
    add_common_arguments(parser)
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> tuple[Config, list[str]]:
    """Make the complete config and the remarks for its log.

    Args:
        args (argparse.Namespace): Of :func:`parse_args`.

    Returns:
        tuple[Config, list[str]]: Config and sentences.

    Raises:
        UserError: If the command line or the config is at fault.
    """
    cfg = load_config(args)
    check_host(cfg)
    check_evaluators(cfg)
    set_exit_threshold(cfg, args.exit_threshold)
    notes = adapt_to_machine(cfg)
    if args.amp:
        use_amp(cfg)
    notes += set_resume(cfg, args.resume)
    check_pretrained(cfg)
    notes.append(batch_note(cfg))
    return cfg, notes


def set_resume(cfg: Config, resume: str | None) -> list[str]:
    """Point the runner at the checkpoint to go on from.

    Args:
        cfg (Config): Changed in place.
        resume (str | None): Path, 'auto' or None.

    Returns:
        list[str]: Sentences for the log.

    Raises:
        UserError: If the named checkpoint is absent or damaged.
    """
    if resume is None:
        if cfg.get('load_from'):
            read_checkpoint(cfg.load_from)
        return []
    cfg.resume = True
    if resume == 'auto':
        resume = latest_checkpoint(cfg.work_dir)
        if resume is None:
            return [f'no checkpoint in {cfg.work_dir}: starting from step 0']
    state = read_checkpoint(resume)
    if 'optimizer' not in state or 'meta' not in state:
        raise UserError(
            f'{resume} holds weights only, so training cannot go on from '
            'it. To start a new training from these weights: --cfg-options '
            f'load_from={resume}'
        )
    cfg.load_from = resume
    notes = drop_pretrained(cfg)
    return [
        *notes,
        f'going on from {resume}, step {state["meta"].get("iter")}',
    ]


@ending_cleanly(': --resume goes on from the last checkpoint')
def main(argv: list[str] | None = None) -> None:
    """Train."""
    args = parse_args(argv)
    with leaving_together():
        run(args)


def run(args: argparse.Namespace) -> None:
    """Train as the command line says.

    Args:
        args (argparse.Namespace): Of :func:`parse_args`.
    """
    with user_errors():
        cfg, notes = prepare(args)
    # Wrong names and arguments in the config surface while it is built.
    disk = partial(disk_errors, cfg.work_dir, FULL_DISK)
    with user_errors(ValueError, KeyError, TypeError), disk():
        runner = Runner.from_cfg(cfg)
        runner.register_hook(StepSeedHook())
        runner.register_hook(StripWrappersHook())
        for note in notes:
            runner.logger.info(note)
        if cfg.get('resume') and cfg.get('load_from'):
            unused = load_model_weights(
                unwrap_model(runner.model), cfg.load_from
            )
            if unused:
                runner.logger.log(logging.WARNING, unused)
    with user_errors(), disk():
        runner.train()
