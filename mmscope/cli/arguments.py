"""Values of command-line options, refused with what was expected."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from mmengine.config import DictAction

from mmscope.errors import UserError
from mmscope.models.scoping import check_threshold
from mmscope.runtime import ExitChoice


def whole(text: str) -> int:
    """Read an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(
            f'expected a whole number, got {text!r}'
        )
    return int(text)


def positive(text: str) -> int:
    """Read an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'expected an integer of at least 1, got {text!r}'
        )
    return int(text)


def fraction(text: str) -> float:
    """Read a number in [0, 1]."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(
            f'expected a fraction in [0, 1], got {text!r}'
        )
    return value


def device(text: str) -> str:
    """Read a device that this machine has."""
    try:
        torch.empty(0, device=text)
    # torch says 'no such type', 'no driver' and 'no such GPU' in its own ways.
    except (RuntimeError, AssertionError) as error:
        told = (str(error).splitlines() or [''])[0]
        raise argparse.ArgumentTypeError(
            f'expected a device of this machine such as cpu or cuda:0, got '
            f'{text!r}: {told}'
        ) from None
    return text


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add what overrides entries of a config.

    Args:
        parser (argparse.ArgumentParser): Extended in place.
    """
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='override config entries, lists as key="[a,b]", nothing as '
        'key=None (model.backbone.init_cfg=None trains from scratch)',
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing share.

    Args:
        parser (argparse.ArgumentParser): Extended in place.
    """
    parser.add_argument(
        '--work-dir', help='logs and results (default work_dirs/CONFIG)'
    )
    parser.add_argument(
        '--exit-threshold',
        type=threshold_or_file,
        metavar='ETA',
        help='an image leaves after the coarse stage when its confidence '
        'reaches this: 0 all leave, > 1 nobody; or the JSON file that '
        'sweep_threshold.py --save-threshold wrote. Overrides the config',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes were started',
    )
    # Older torch launchers pass it instead of the environment variable.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='internal'
    )


def threshold_or_file(text: str) -> float | ExitChoice:
    """Read the value of ``--exit-threshold``.

    Args:
        text (str): A number, or a file that ``sweep_threshold.py`` saved.

    Returns:
        float | ExitChoice: The threshold.

    Raises:
        argparse.ArgumentTypeError: If it is neither.
    """
    if text.endswith('.json') or Path(text).is_file():
        try:
            return ExitChoice.read(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    try:
        return check_threshold(float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'expected a number >= 0 (0: every image exits, > 1: none does) '
            f'or a saved .json file, got {text!r}'
        ) from None
