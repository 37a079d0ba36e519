"""The command line of ``tools/benchmark.py``."""

from __future__ import annotations

import argparse
from functools import partial

import torch

from mmscope.benchmark.growth import SIDES
from mmscope.benchmark.models import NECKS
from mmscope.benchmark.setting import DTYPES
from mmscope.benchmark.subjects import EXIT_RATIOS
from mmscope.cli.arguments import (
    add_cfg_options,
    add_device,
    fraction,
    positive,
    tool_parser,
)
from mmscope.cli.gpu_arguments import (
    add_gpu_modes,
    add_gpu_options,
    check_gpu,
)
from mmscope.models.backbones.arguments import ARCHS
from mmscope.ops import BACKENDS

REPEATS = {'cpu': 10, 'cuda': 30}
GRIDS = ('grid', 'growth', 'reductions')
MODELS = (*GRIDS, 'ratios', 'config')
ON_GPU = ('gpu_first', 'train_minutes')
# Options to what is measured with them: the others would ignore them.
TAKEN_BY = {
    'images': ('config',),
    'cfg_options': ('config', 'train_minutes'),
    'matmuls': GRIDS,
    'resolutions': GRIDS,
    'arch': (*GRIDS, 'ratios'),
    'neck': (*GRIDS, 'ratios'),
    'refine_ratio': (*GRIDS, 'ratios'),
    'exit_ratios': (*GRIDS, 'config'),
    'batch_sizes': MODELS,
    'dtype': MODELS,
    'backend': MODELS,
    'budget_s': (*GRIDS, 'config'),
    'budget_gib': (*GRIDS, 'config'),
    'plot': (*GRIDS, 'config'),
    'device': (*MODELS, 'ops'),
    'threads': (*MODELS, 'ops'),
    'repeats': (*MODELS, 'ops'),
    'parts': ('gpu_first',),
    'train_config': ('train_minutes',),
    'train_batch': ('train_minutes',),
    'data': ('train_minutes',),
    'dry_run': ON_GPU,
    'again': ON_GPU,
    'commit': ON_GPU,
}


def add_what(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose what is measured."""
    what = parser.add_mutually_exclusive_group()
    flag = partial(what.add_argument, action='store_true')
    text = 'compare the compiled scan and convolution with plain PyTorch'
    flag('--ops', help=text)
    flag('--growth', help='time and memory against tokens, batch and threads')
    text = 'the grid with R-MeeTo, HiddenAlign and DyVM on ViM'
    flag('--reductions', help=text)
    text = 'write the ratios that are comparable between machines as JSON'
    what.add_argument('--ratios', metavar='FILE', help=text)
    files = dict(nargs='+', metavar='FILE')
    text = 'time whole models by their test_step on their test data'
    what.add_argument('--config', **files, help=text)
    add_gpu_modes(what)
    add = parser.add_argument
    text = 'weights, one for each --config (default: random)'
    add('--checkpoint', **files, default=[], help=text)
    text = 'images of a config that are timed (default: 16)'
    add('--images', type=positive, default=16, help=text)
    add_cfg_options(parser)
    text = "time ViM's matrix products alone, too: the floor"
    add('--matmuls', action='store_true', help=text)


def add_grid(parser: argparse.ArgumentParser) -> None:
    """Add the options that span the grid."""
    add = parser.add_argument
    text = 'default: tiny and small; with --growth: tiny'
    add('--arch', nargs='+', choices=list(ARCHS), help=text)
    numbers = dict(nargs='+', type=positive)
    text = 'default: 1 8, of the grid on a GPU 1 8 64 256'
    add('--batch-sizes', **numbers, help=text)
    text = 'default: 224 512 on CPU, up to 1248 on a GPU; with --growth: '
    text += f'{SIDES[0]} to {SIDES[-1]}; with --reductions: 224'
    add('--resolutions', **numbers, metavar='PIXELS', help=text)
    text = 'fractions of the images that exit (default: 0 0.25 0.5 0.75 1; '
    text += 'with --growth or --reductions: 0.5; with --exit-thresholds: none)'
    add('--exit-ratios', nargs='*', type=fraction, metavar='R', help=text)
    etas = dict(nargs='+', type=float, default=[], metavar='ETA')
    text = "with --config: leave the exits to the model's gate"
    add('--exit-thresholds', **etas, help=text)
    add('--refine-ratio', type=fraction, default=0.8, help='default: 0.8')
    text = 'put a feature pyramid on every backbone (default: a classifier)'
    add('--neck', choices=NECKS, default='none', help=text)


def add_how(parser: argparse.ArgumentParser) -> None:
    """Add the options of device, precision, budget and output."""
    add = parser.add_argument
    add_device(parser)
    add('--dtype', choices=list(DTYPES), default='float32')
    add('--backend', choices=['auto', *BACKENDS], default='auto')
    text = 'threads of torch (default: its own)'
    add('--threads', type=positive, help=text)
    text = 'timed rounds at most (default: 10 on CPU, 30 on a GPU)'
    add('--repeats', type=positive, help=text)
    text = 'seconds of each cell (default: 60; with --growth: 20); the '
    text += 'slowest subjects are skipped until three rounds of the others fit'
    add('--budget-s', type=float, help=text)
    text = 'memory of a forward (default: seven tenths of what is free)'
    add('--budget-gib', type=float, help=text)
    text = 'write the numbers as JSON; without FILE instead of the table'
    add('--json', nargs='?', const='-', metavar='FILE', help=text)
    add('--plot', metavar='FILE', help='draw them (PNG)')


def parse_args(
    arguments: list[str] | None, description: str
) -> argparse.Namespace:
    """Read the command line, and fill in what depends on the device."""
    parser = tool_parser(description)
    for add in (add_what, add_grid, add_how, add_gpu_options):
        add(parser)
    args = parser.parse_args(arguments)
    _check(parser, args)
    if args.exit_ratios is None:
        args.exit_ratios = _usual_ratios(args)
    # Each is one subject, whose name it is in.
    args.exit_ratios = [*dict.fromkeys(args.exit_ratios)]
    args.exit_thresholds = [*dict.fromkeys(args.exit_thresholds)]
    if args.reductions:
        args.resolutions = args.resolutions or [224]
    if args.budget_s is None:
        args.budget_s = 20.0 if args.growth else 60.0
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    args.device = torch.device(args.device or default)
    args.repeats = args.repeats or REPEATS.get(args.device.type, 10)
    return args


def _usual_ratios(args: argparse.Namespace) -> list[float]:
    """Exit ratios to force where none are named."""
    if args.exit_thresholds:
        return []
    half = args.growth or args.reductions
    return [0.5] if half else list(EXIT_RATIOS)


def _refuse_ignored(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
    """End with a message if what is measured has no use for an option."""
    modes = (*MODELS[1:], 'ops', *ON_GPU)
    mode = next((name for name in modes if getattr(args, name)), 'grid')
    for name, takers in TAKEN_BY.items():
        if mode in takers or getattr(args, name) == parser.get_default(name):
            continue
        others = ', '.join(map(_option, takers))
        advice = 'leave it out'
        if mode == 'config' and 'grid' in takers:
            advice += ', or change it with --cfg-options'
        parser.error(
            f'{_option(name)} is ignored by {_option(mode)}, it is for '
            f'{others}: {advice}'
        )


def _option(name: str) -> str:
    return 'the grid' if name == 'grid' else f'--{name.replace("_", "-")}'


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a message if options contradict each other."""
    if args.exit_thresholds and not args.config:
        parser.error(
            '--exit-thresholds need the trained gate of a --config; without '
            'one, force --exit-ratios'
        )
    if args.checkpoint and len(args.checkpoint) != len(args.config or []):
        parser.error(
            f'{len(args.checkpoint)} --checkpoint for '
            f'{len(args.config or [])} --config; give one for each'
        )
    if args.growth and len(args.arch or '1') > 1:
        parser.error(f'--growth takes one --arch, got {" ".join(args.arch)}')
    check_gpu(parser, args)
    _refuse_ignored(parser, args)
