"""Options of the tools: what several of them take is declared here, once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mmengine.config import DictAction

# Imported where they are used: the tools that sort files need no torch.
if TYPE_CHECKING:
    from mmscope.runtime import ExitChoice

Parser = argparse.ArgumentParser
N = TypeVar('N', int, float)


def _reader(
    kind: Callable[[str], N],
    expected: str,
    least: float,
    most: float = sys.float_info.max,
) -> Callable[[str], N]:
    """Make what reads a finite number between two others."""

    def read(text: str) -> N:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f'expected {expected}, got {text!r}'
            )
        return value

    return read


whole = _reader(int, 'a whole number', 0)
positive = _reader(int, 'an integer of at least 1', 1)
amount = _reader(float, 'a number of at least 0', 0)
fraction = _reader(float, 'a fraction in [0, 1]', 0, 1)


def device(text: str) -> str:
    """Read a device that this machine has."""
    import torch

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


def threshold_or_file(text: str) -> float | ExitChoice:
    """Read η: a number, or a file that ``sweep_threshold.py`` saved."""
    from mmscope.errors import UserError
    from mmscope.models.scoping import check_threshold
    from mmscope.runtime import ExitChoice

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


def tool_parser(description: str | None) -> Parser:
    """Make the parser of a tool, whose --help is its docstring as it is."""
    return Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_model(parser: Parser, checkpoint: bool = True) -> None:
    """Add the config that says what a model is, and perhaps its weights."""
    parser.add_argument('config', help='config file of a model')
    if checkpoint:
        parser.add_argument('checkpoint', help='checkpoint file')


class CfgOptions(DictAction):
    """Reads KEY=VALUE, and says so where something else comes."""

    def __call__(
        self,
        parser: Parser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Enter the overrides into the namespace."""
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} wants KEY=VALUE, got {value!r}')
        super().__call__(parser, namespace, values, option_string)


def add_cfg_options(parser: Parser) -> None:
    """Add what overrides entries of a config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        default={},
        metavar='KEY=VALUE',
        help='override config entries, lists as key="[a,b]", nothing as '
        'key=None (model.backbone.init_cfg=None trains from scratch)',
    )


def add_device(parser: Parser) -> None:
    """Add where a model runs."""
    text = 'such as cpu or cuda:0 (default: the GPU if there is one)'
    parser.add_argument('--device', type=device, help=text)


def add_shape(parser: Parser) -> None:
    """Add the size of the images."""
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help="input height and width in pixels (default: the config's)",
    )


def add_convention(parser: Parser) -> None:
    """Add how MACs are counted."""
    from mmscope.analysis.costs import DIRECTIONS

    parser.add_argument(
        '--convention',
        choices=sorted(DIRECTIONS, reverse=True),
        default='paper',
        help='scan directions counted: one (paper) or both (exact)',
    )


def add_split(parser: Parser) -> None:
    """Add which data of a config are meant."""
    from mmscope.evaluation.loading import SPLITS

    text = 'data to take images from: test_dataloader (default) or val'
    parser.add_argument('--split', choices=SPLITS, default='test', help=text)


def add_exit_threshold(
    parser: Parser, option: str = '--exit-threshold'
) -> None:
    """Add η, as ``exit_threshold``."""
    parser.add_argument(
        option,
        dest='exit_threshold',
        type=threshold_or_file,
        metavar='ETA',
        help='an image leaves after the coarse stage when its confidence '
        'reaches this: 0 all leave, > 1 nobody; or the JSON file that '
        "sweep_threshold.py --save-threshold wrote (default: the config's)",
    )


def add_check(parser: Parser) -> None:
    """Add what compares documents with what would be written."""
    text = 'fail unless everything is up to date'
    parser.add_argument('--check', action='store_true', help=text)


def add_run_options(parser: Parser) -> None:
    """Add the options that training and testing share."""
    parser.add_argument(
        '--work-dir', help='logs and results (default work_dirs/CONFIG)'
    )
    add_exit_threshold(parser)
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
