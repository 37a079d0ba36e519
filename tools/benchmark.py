"""Measure speed and memory: MambaScope against ViM and DeiT.

    python tools/benchmark.py [--arch tiny small base] [--batch-sizes 1 8]
        [--resolutions 224 512] [--exit-ratios 0 0.5 1] [--neck fpn]
    python tools/benchmark.py --config FILE... [--checkpoint FILE...]
        [--exit-ratios ...] [--exit-thresholds 0.6 0.7 0.8]
    python tools/benchmark.py --growth | --ops | --ratios FILE
        common: [--device D] [--dtype T] [--backend B] [--threads N]
        [--repeats N] [--budget-s S] [--json [FILE]] [--plot FILE]

Everybody is timed in turns, round by round; the median and the quartiles of
the rounds are reported, with what was skipped and where MambaScope loses. Its
exits are real (unsure images are gathered, refined and scattered back), but
without trained weights their number is forced: with an exit ratio of 0.5,
half of each batch exits, at batch 1 every second image.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from functools import partial
from pathlib import Path

from mmengine.config import DictAction

# Hosts print while they are imported; the JSON alone goes to stdout.
with contextlib.redirect_stdout(sys.stderr):
    import torch

    from mmscope import ops
    from mmscope.apis import UserError, user_errors
    from mmscope.apis.memory import keep_freed_memory
    from mmscope.benchmark.configs import config_field, open_subject
    from mmscope.benchmark.contestants import EXIT_RATIOS, Field, line_up
    from mmscope.benchmark.grid import (
        Cell,
        Grid,
        Limits,
        measure_cell,
        measure_grid,
    )
    from mmscope.benchmark.growth import (
        BATCHES,
        SIDES,
        Growth,
        growth_report,
        thread_counts,
    )
    from mmscope.benchmark.memory import memory_method
    from mmscope.benchmark.models import NECKS
    from mmscope.benchmark.ops import benchmark_ops, ops_table
    from mmscope.benchmark.picture import grid_figure, growth_figure
    from mmscope.benchmark.predictions import losses
    from mmscope.benchmark.ratios import (
        growth_exponents,
        model_ratios,
        op_ratios,
        write_ratios,
    )
    from mmscope.benchmark.report import grid_report
    from mmscope.benchmark.setting import (
        DTYPES,
        describe_setting,
        setting_line,
    )
    from mmscope.models.backbones.arguments import ARCHS
    from mmscope.visualization.style import save

# On CPU; on a GPU the whole grid.
CPU_GRID = {'batch_sizes': (1, 8), 'resolutions': (224, 512)}
GPU_GRID = {
    'batch_sizes': (1, 8, 64, 256),
    'resolutions': (224, 384, 512, 640, 768, 1024, 1248),
}
REPEATS = {'cpu': 10, 'cuda': 30}


def positive(text: str) -> int:
    """Read an integer of at least 1."""
    if not text.isdigit() or int(text) < 1:
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


def add_what(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose what is measured."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        '--ops',
        action='store_true',
        help='compare the compiled scan and convolution with plain PyTorch',
    )
    what.add_argument(
        '--growth',
        action='store_true',
        help='time and memory against tokens, batch and threads',
    )
    what.add_argument(
        '--ratios',
        metavar='FILE',
        help='write the ratios that are comparable between machines as JSON',
    )
    what.add_argument(
        '--config',
        nargs='+',
        metavar='FILE',
        help='time whole models by their test_step on their test data',
    )
    parser.add_argument(
        '--checkpoint',
        nargs='+',
        default=[],
        metavar='FILE',
        help='weights, one for each --config (default: random)',
    )
    parser.add_argument(
        '--images',
        type=positive,
        default=16,
        help='images of a config that are timed (default: 16)',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='config overrides'
    )
    parser.add_argument(
        '--matmuls',
        action='store_true',
        help="time ViM's matrix products alone, too: the floor",
    )


def add_grid(parser: argparse.ArgumentParser) -> None:
    """Add the options that span the grid."""
    parser.add_argument(
        '--arch',
        nargs='+',
        choices=list(ARCHS),
        help='default: tiny and small; with --growth: tiny',
    )
    parser.add_argument(
        '--batch-sizes',
        nargs='+',
        type=positive,
        help='default: 1 8 on CPU, 1 8 64 256 on a GPU',
    )
    parser.add_argument(
        '--resolutions',
        nargs='+',
        type=positive,
        metavar='PIXELS',
        help='default: 224 512 on CPU, up to 1248 on a GPU; with --growth: '
        f'{SIDES[0]} to {SIDES[-1]}',
    )
    parser.add_argument(
        '--exit-ratios',
        nargs='*',
        type=fraction,
        default=list(EXIT_RATIOS),
        metavar='R',
        help='fractions of the images that exit (default: 0 0.25 0.5 0.75 1)',
    )
    parser.add_argument(
        '--exit-thresholds',
        nargs='+',
        type=float,
        default=[],
        metavar='ETA',
        help="with --config: leave the exits to the model's gate",
    )
    parser.add_argument(
        '--refine-ratio', type=fraction, default=0.8, help='default: 0.8'
    )
    parser.add_argument(
        '--neck',
        choices=NECKS,
        default='none',
        help='put a feature pyramid on every backbone (default: a classifier)',
    )


def add_how(parser: argparse.ArgumentParser) -> None:
    """Add the options of device, precision, budget and output."""
    parser.add_argument(
        '--device', help='such as cpu or cuda:0 (default: the GPU if any)'
    )
    parser.add_argument('--dtype', choices=list(DTYPES), default='float32')
    parser.add_argument(
        '--backend', choices=['auto', *ops.BACKENDS], default='auto'
    )
    parser.add_argument(
        '--threads', type=positive, help='threads of torch (default: its own)'
    )
    parser.add_argument(
        '--repeats',
        type=positive,
        help='timed rounds at most (default: 10 on CPU, 30 on a GPU)',
    )
    parser.add_argument(
        '--budget-s',
        type=float,
        default=60.0,
        help='seconds of each cell (default: 60); the slowest contestants '
        'are skipped until three rounds of the others fit',
    )
    parser.add_argument(
        '--budget-gib',
        type=float,
        help='memory of a forward (default: seven tenths of what is free)',
    )
    parser.add_argument(
        '--json',
        nargs='?',
        const='-',
        metavar='FILE',
        help='write the numbers as JSON; without FILE instead of the table',
    )
    parser.add_argument('--plot', metavar='FILE', help='draw them (PNG)')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line, and fill in what depends on the device."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for add in (add_what, add_grid, add_how):
        add(parser)
    args = parser.parse_args(arguments)
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
    if args.plot and (args.ops or args.ratios):
        parser.error('--plot draws the grid, --config or --growth')
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    args.device = torch.device(args.device or default)
    args.repeats = args.repeats or REPEATS.get(args.device.type, 10)
    return args


def check_device(args: argparse.Namespace) -> None:
    """Refuse a device or a backend that cannot run.

    Args:
        args (argparse.Namespace): Command line.

    Raises:
        UserError: With the reason.
    """
    if args.device.type == 'cuda' and not torch.cuda.is_available():
        raise UserError(
            f'--device {args.device}, but torch sees no GPU: use --device cpu'
        )
    backend = 'cpu' if args.ops and args.backend == 'auto' else args.backend
    reason = None
    if backend != 'auto':
        reason = ops.why_unavailable(backend, args.device)
    if reason:
        raise UserError(f'the {backend} backend cannot run: {reason}')


def builder(args: argparse.Namespace, arch: str, resolution: int) -> Field:
    """Build the contestants that the command line asks for."""
    return line_up(
        arch,
        resolution,
        neck=args.neck,
        dtype=DTYPES[args.dtype],
        device=args.device,
        backend=args.backend,
        exit_ratios=args.exit_ratios,
        refine_ratio=args.refine_ratio,
        matmuls=args.matmuls,
    )


def limits_of(args: argparse.Namespace) -> Limits:
    """Collect budgets and repeats."""
    return Limits(args.device, args.repeats, args.budget_s, args.budget_gib)


def tell(text: str) -> None:
    """Show progress where no result is."""
    print(text, file=sys.stderr, flush=True)


def run_grid(args: argparse.Namespace) -> dict:
    """Measure the grid of architectures, batches and resolutions."""
    default = GPU_GRID if args.device.type == 'cuda' else CPU_GRID
    grid = measure_grid(
        args.arch or ('tiny', 'small'),
        args.batch_sizes or default['batch_sizes'],
        args.resolutions or default['resolutions'],
        partial(builder, args),
        limits_of(args),
        tell,
    )
    return describe_grid(args, grid)


def run_configs(args: argparse.Namespace) -> dict:
    """Time the models of configs in turns."""
    batches = args.batch_sizes or CPU_GRID['batch_sizes']
    number = max(args.images, *batches)
    checkpoints = args.checkpoint or [None] * len(args.config)
    subjects = [
        open_subject(
            config,
            checkpoint,
            number,
            device=args.device,
            dtype=DTYPES[args.dtype],
            backend=args.backend,
            cfg_options=args.cfg_options,
        )
        for config, checkpoint in zip(args.config, checkpoints, strict=True)
    ]
    field = config_field(subjects, args.exit_ratios, args.exit_thresholds)
    grid = Grid()
    height, width = subjects[0].shape
    for batch in batches:
        tell(f'configs, batch {batch}')
        cell = Cell('config', batch, f'{height}x{width}')
        measure_cell(cell, field, limits_of(args), grid)
    return describe_grid(args, grid)


def describe_grid(args: argparse.Namespace, grid: Grid) -> dict:
    """Turn a grid into what is written: rows, skipped, losses."""
    return {
        'neck': args.neck,
        'memory': memory_method(args.device),
        'rows': grid.rows,
        'skipped': grid.skipped,
        'losses': losses(grid.rows),
    }


def run_growth(args: argparse.Namespace) -> dict:
    """Measure growth with tokens, batch and, on CPU, threads."""
    arch = (args.arch or ('tiny',))[0]
    growth = Growth(arch, partial(builder, args, arch), limits_of(args), tell)
    sides = args.resolutions or SIDES
    growth.tokens(sides)
    growth.batch(args.batch_sizes or BATCHES, sides[0])
    if args.device.type == 'cpu':
        growth.threads(thread_counts(torch.get_num_threads()), side=sides[0])
    return growth.result()


def run_ratios(args: argparse.Namespace, setting: dict) -> str:
    """Write the file of ratios; returns what changed."""
    args.matmuls, args.exit_ratios = True, [0.5]
    build = partial(builder, args)
    found: dict = {}
    if ops.why_unavailable('cpu', args.device) is None:
        found.update(op_ratios(args.repeats))
    for arch in args.arch or ('tiny', 'small'):
        for batch in args.batch_sizes or CPU_GRID['batch_sizes']:
            tell(f'{arch}, batch {batch}')
            found.update(
                model_ratios(arch, batch, build, args.repeats, args.device)
            )
    args.exit_ratios = []
    found.update(growth_exponents('tiny', build, args.repeats, args.device))
    return write_ratios(setting, found, args.ratios)


def measure(args: argparse.Namespace, setting: dict) -> tuple[dict, str]:
    """Run what the command line asks for.

    Args:
        args (argparse.Namespace): Command line.
        setting (dict): Machine, versions, commit.

    Returns:
        tuple[dict, str]: Result for JSON, and the same for people.
    """
    if args.ops:
        rows = benchmark_ops(args.repeats)
        return {'ops': rows}, ops_table(rows)
    if args.growth:
        result = run_growth(args)
        return {'growth': result}, growth_report(result)
    if args.ratios:
        text = run_ratios(args, setting)
        written = json.loads(Path(args.ratios).read_text(encoding='utf-8'))
        return {'ratios': written['ratios']}, text
    result = run_configs(args) if args.config else run_grid(args)
    return result, grid_report(result)


def write(args: argparse.Namespace, result: dict) -> None:
    """Write the JSON file and the picture that were asked for."""
    if args.json and args.json != '-':
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=2) + '\n'
        Path(args.json).write_text(text, encoding='utf-8')
    if args.plot:
        if args.growth:
            save(growth_figure(result['growth']), args.plot)
        else:
            save(grid_figure(result['rows']), args.plot)


def main(arguments: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    with contextlib.redirect_stdout(sys.stderr), user_errors():
        check_device(args)
        if args.threads:
            torch.set_num_threads(args.threads)
        if args.device.type == 'cpu':
            # As tools/test.py does; it serves every contestant.
            keep_freed_memory()
        setting = describe_setting(args.device, args.dtype, args.backend)
        found, text = measure(args, setting)
        result = {'setting': setting, **found}
        write(args, result)
    if args.json == '-':
        print(json.dumps(result, indent=2))
        return
    print(f'{setting_line(setting)}\n\n{text}')


if __name__ == '__main__':
    main()
