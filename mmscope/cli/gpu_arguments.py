"""The options of ``tools/benchmark.py`` for the first minutes on a GPU."""

from __future__ import annotations

import argparse
from functools import partial

import torch

from mmscope.benchmark.gpu.parts import PARTS
from mmscope.cli.arguments import positive
from mmscope.errors import UserError

# Larger than a config's, which are made for CPUs: a GPU is idle otherwise.
TRAIN_BATCH = 512
CONFIGS = ('configs/cifar10/vim_mini.py', 'configs/cifar10/mambascope_mini.py')


def add_gpu_modes(what: argparse._MutuallyExclusiveGroup) -> None:
    """Add what is done, beside the other things that are measured."""
    what.add_argument(
        '--gpu-first',
        action='store_true',
        help='prove and measure everything on a GPU, in at most eight '
        'minutes; goes on where it was interrupted',
    )
    what.add_argument(
        '--train-minutes',
        type=float,
        metavar='M',
        help='train the models of --train-config in turns, M minutes in all',
    )


def add_gpu_options(parser: argparse.ArgumentParser) -> None:
    """Add how it is done."""
    group = parser.add_argument_group('with --gpu-first or --train-minutes')
    add = group.add_argument
    flag = partial(add, action='store_true')
    text = 'run every line on the CPU in seconds: tiny, numbers are worthless'
    flag('--dry-run', help=text)
    text = 'begin anew and give --json FILE, if it is there, another name; '
    text += 'without it what the same card, code and torch did is kept'
    flag('--again', help=text)
    names, text = list(PARTS), 'of --gpu-first (default: all)'
    add('--parts', nargs='+', choices=names, default=names, help=text)
    text = 'of the code, where it is a copy without its repository (default: '
    add('--commit', metavar='NAME', help=f'{text}git says it)')
    text = 'images of --train-minutes: FOLDER/train and FOLDER/test with one '
    text += 'folder a class, or a tar archive of these two'
    add('--data', metavar='FOLDER', help=text)
    text = 'configs of classifiers (default: both of CIFAR-10)'
    many = partial(add, nargs='+', metavar='FILE')
    many('--train-config', default=list(CONFIGS), help=text)
    text = "images of a step; the config's rate grows by the square root "
    text += f'(default: {TRAIN_BATCH})'
    number = partial(add, type=positive, default=TRAIN_BATCH, metavar='B')
    number('--train-batch', help=text)


def check_gpu(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
    """End with a message if options are missing."""
    training = args.train_minutes is not None
    if not (args.gpu_first or training):
        return
    if args.json in (None, '-'):
        parser.error(
            'a run that may be cut off needs a file to write to: --json FILE'
        )
    if training and args.train_minutes <= 0:
        parser.error(
            f'--train-minutes must be above 0, got {args.train_minutes}'
        )
    if training and not args.data:
        parser.error('--train-minutes needs images: --data FOLDER')


def gpu_device(args: argparse.Namespace) -> torch.device:
    """Return the GPU, or the CPU for a dry run; else raise a UserError."""
    if args.dry_run:
        return torch.device('cpu')
    if not torch.cuda.is_available():
        mode = '--gpu-first' if args.gpu_first else '--train-minutes'
        raise UserError(
            f'{mode}, but torch sees no GPU: run it on a machine with one and '
            'its driver, or try it with --dry-run'
        )
    return torch.device('cuda')
