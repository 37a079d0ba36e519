"""Train a config of any of the three hosts.

    python tools/train.py configs/ade20k/mambascope_ti_upernet.py
    tools/dist_train.sh configs/ade20k/mambascope_ti_upernet.py 4

The host (mmsegmentation, mmdetection or mmpretrain) is the config's
``default_scope``.
"""

from __future__ import annotations

import argparse
from functools import partial

from mmengine.config import Config

from mmscope.cli.arguments import add_model, add_run_options, tool_parser
from mmscope.cli.host_run import Prepared, open_run, run_host
from mmscope.errors import UserError
from mmscope.runtime import (
    StepSeedHook,
    adapt_to_machine,
    batch_note,
    check_pretrained,
    drop_pretrained,
    ending_cleanly,
    latest_checkpoint,
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
    parser = tool_parser(__doc__)
    add_model(parser, checkpoint=False)
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
    add_run_options(parser)
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> Prepared:
    """Make the complete config and the remarks for its log.

    Raises:
        UserError: If the command line or the config is at fault.
    """
    cfg = open_run(args)
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

    Raises:
        UserError: If the named checkpoint is absent or damaged.
    """
    notes = []
    if resume is None and cfg.get('resume'):
        # By --cfg-options or the config: as --resume, our checks included.
        resume = cfg.get('load_from') or 'auto'
    if resume == 'auto':
        resume = latest_checkpoint(cfg.work_dir)
        # Otherwise MMEngine would go on from load_from, another run.
        cfg.resume = False
        notes = [f'no checkpoint in {cfg.work_dir}: starting from step 0']
    if resume is None:
        if cfg.get('load_from'):
            read_checkpoint(cfg.load_from)
        return notes
    cfg.resume = True
    state = read_checkpoint(resume)
    if 'optimizer' not in state or 'meta' not in state:
        raise UserError(
            f'{resume} holds weights only, so training cannot go on from '
            'it. To start a new training from these weights: --cfg-options '
            f'load_from={resume}'
        )
    cfg.load_from = resume
    step = state['meta'].get('iter')
    return [*drop_pretrained(cfg), f'going on from {resume}, step {step}']


@ending_cleanly(': --resume goes on from the last checkpoint')
def main(argv: list[str] | None = None) -> None:
    """Train."""
    args = parse_args(argv)
    run_host('train', partial(prepare, args), FULL_DISK, [StepSeedHook])
