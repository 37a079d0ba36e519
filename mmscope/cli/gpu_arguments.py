"""The options of ``tools/benchmark.py`` for the first minutes on a GPU."""

from __future__ import annotations

import argparse

from mmscope.benchmark.gpu.parts import PARTS
from mmscope.cli.arguments import positive

# Larger than a config's, which are made for CPUs: a GPU is idle otherwise.
TRAIN_BATCH = 512
CONFIGS = ('configs/cifar10/vim_mini.py', 'configs/cifar10/mambascope_mini.py')


def add_gpu_modes(what: argparse._MutuallyExclusiveGroup) -> None:
    """Add what is done, beside the other things that are measured.

    Args:
        what (argparse._MutuallyExclusiveGroup): Extended in place.
    """
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
    """Add how it is done.

    Args:
        parser (argparse.ArgumentParser): Extended in place.
    """
    group = parser.add_argument_group('with --gpu-first or --train-minutes')
    group.add_argument(
        '--dry-run',
        action='store_true',
        help='run every line on the CPU in seconds: tiny, numbers are '
        'worthless',
    )
    group.add_argument(
        '--again',
        action='store_true',
        help='forget what --json FILE holds; without it what was done on the '
        'same card and commit is kept',
    )
    group.add_argument(
        '--parts',
        nargs='+',
        choices=list(PARTS),
        default=list(PARTS),
        help='of --gpu-first (default: all)',
    )
    group.add_argument(
        '--commit',
        metavar='NAME',
        help='of the code, where it is a copy without its repository '
        '(default: git says it)',
    )
    group.add_argument(
        '--data',
        metavar='FOLDER',
        help='images of --train-minutes: FOLDER/train and FOLDER/test with '
        'one folder a class, or a tar archive of these two',
    )
    group.add_argument(
        '--train-config',
        nargs='+',
        default=list(CONFIGS),
        metavar='FILE',
        help='configs of classifiers (default: both of CIFAR-10)',
    )
    group.add_argument(
        '--train-batch',
        type=positive,
        default=TRAIN_BATCH,
        metavar='B',
        help="images of a step; the config's rate grows by the square root "
        f'(default: {TRAIN_BATCH})',
    )


def check_gpu(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
    """End with a message if options are missing or contradict each other.

    Args:
        parser (argparse.ArgumentParser): To end with.
        args (argparse.Namespace): Command line.
    """
    training = args.train_minutes is not None
    if not (args.gpu_first or training):
        for name in ('dry_run', 'again', 'data', 'commit'):
            if getattr(args, name):
                option = name.replace('_', '-')
                parser.error(
                    f'--{option} belongs to --gpu-first or --train-minutes'
                )
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
    if args.data and not training:
        parser.error('--data belongs to --train-minutes')
