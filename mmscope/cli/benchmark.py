"""Measure speed and memory: MambaScope against ViM and DeiT.

    python tools/benchmark.py [--arch tiny small base] [--batch-sizes 1 8]
        [--resolutions 224 512] [--exit-ratios 0 0.5 1] [--neck fpn]
    python tools/benchmark.py --config FILE... [--checkpoint FILE...]
        [--exit-ratios ...] [--exit-thresholds 0.6 0.7 0.8]
    python tools/benchmark.py --reductions [--arch ...] [--batch-sizes ...]
    python tools/benchmark.py --growth | --ops | --ratios FILE
    python tools/benchmark.py --gpu-first --json FILE [--dry-run] [--again]
    python tools/benchmark.py --train-minutes M --data FOLDER --json FILE
        [--train-config FILE...] [--dry-run] [--again]
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
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure

from mmscope import ops
from mmscope.benchmark.configs import (
    config_subjects,
    distinct_names,
    open_config_model,
)
from mmscope.benchmark.files import plain, write_json
from mmscope.benchmark.grid import Limits, measure_cell, measure_grid
from mmscope.benchmark.grid_report import (
    grid_section,
    paragraphs,
    reductions_section,
)
from mmscope.benchmark.grid_rows import Cell, Grid, slower_cases
from mmscope.benchmark.growth import (
    BATCHES,
    SIDES,
    Growth,
    GrowthFile,
    growth_section,
    thread_counts,
)
from mmscope.benchmark.memory import memory_method
from mmscope.benchmark.ops import benchmark_ops, ops_section
from mmscope.benchmark.picture import grid_figure, growth_figure
from mmscope.benchmark.ratios import (
    RatiosFile,
    changes,
    growth_exponents,
    model_ratios,
    op_ratios,
    rounded,
)
from mmscope.benchmark.reductions import SETTINGS
from mmscope.benchmark.setting import (
    DTYPES,
    Setting,
    describe_setting,
    noise_note,
    setting_line,
)
from mmscope.benchmark.subjects import Subjects, make_subjects
from mmscope.cli.benchmark_arguments import parse_args
from mmscope.cli.gpu_first import gpu_first
from mmscope.cli.train_minutes import train_minutes
from mmscope.errors import UserError, user_errors
from mmscope.runtime import disk_errors, ending_cleanly
from mmscope.runtime.memory import keep_freed_memory
from mmscope.visualization.style import save

# On CPU; on a GPU the whole grid.
CPU_GRID = {'batch_sizes': (1, 8), 'resolutions': (224, 512)}
GPU_GRID = {
    'batch_sizes': (1, 8, 64, 256),
    'resolutions': (224, 384, 512, 640, 768, 1024, 1248),
}
# What goes into the file, the same for people, and as a picture.
Found = tuple[Any, str, Callable[[], Figure] | None]


def check_backend(args: argparse.Namespace) -> None:
    """Refuse, by a UserError, a backend that cannot run."""
    backend = args.backend
    if args.ops and backend == 'auto' and args.device.type == 'cpu':
        # Without compiled operators there is nothing to compare.
        backend = 'cpu'
    reason = None
    if backend != 'auto':
        reason = ops.why_unavailable(backend, args.device)
    if reason:
        raise UserError(f'the {backend} backend cannot run: {reason}')


def builder(args: argparse.Namespace, arch: str, resolution: int) -> Subjects:
    """Build the subjects that the command line asks for."""
    return make_subjects(
        arch,
        resolution,
        neck=args.neck,
        dtype=DTYPES[args.dtype],
        device=args.device,
        backend=args.backend,
        exit_ratios=args.exit_ratios,
        refine_ratio=args.refine_ratio,
        matmuls=args.matmuls,
        reductions=SETTINGS[arch] if args.reductions else None,
    )


def limits_of(args: argparse.Namespace) -> Limits:
    """Collect budgets and repeats."""
    return Limits(args.device, args.repeats, args.budget_s, args.budget_gib)


def tell(text: str) -> None:
    """Show progress where no result is."""
    print(text, file=sys.stderr, flush=True)


def run_grid(args: argparse.Namespace) -> Grid:
    """Measure the grid of architectures, batches and resolutions."""
    default = GPU_GRID if args.device.type == 'cuda' else CPU_GRID
    return measure_grid(
        args.arch or ('tiny', 'small'),
        args.batch_sizes or default['batch_sizes'],
        args.resolutions or default['resolutions'],
        partial(builder, args),
        limits_of(args),
        tell,
    )


def run_configs(args: argparse.Namespace) -> Grid:
    """Time the models of configs in turns."""
    batches = args.batch_sizes or CPU_GRID['batch_sizes']
    number = max(args.images, *batches)
    checkpoints = args.checkpoint or [None] * len(args.config)
    subjects = [
        open_config_model(
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
    for subject, name in zip(
        subjects, distinct_names(args.config), strict=True
    ):
        subject.name = name
    field = config_subjects(subjects, args.exit_ratios, args.exit_thresholds)
    grid = Grid()
    sizes = dict.fromkeys('x'.join(map(str, s.shape)) for s in subjects)
    for batch in batches:
        tell(f'configs, batch {batch}')
        cell = Cell('config', batch, ' and '.join(sizes))
        measure_cell(cell, field, limits_of(args), grid)
    return grid


def grid(args: argparse.Namespace, setting: Setting) -> Found:
    """Measure a grid, of configs or not, and describe it."""
    found = run_configs(args) if args.config else run_grid(args)
    found.setting, found.neck = setting, args.neck
    found.memory = memory_method(args.device)
    found.slower_cases = slower_cases(found.rows)
    section = reductions_section if args.reductions else grid_section
    return found, section(found), partial(grid_figure, found.rows)


def growth(args: argparse.Namespace, setting: Setting) -> Found:
    """Measure growth with tokens, batch and, on CPU, threads."""
    arch = (args.arch or ('tiny',))[0]
    curves = Growth(arch, partial(builder, args, arch), limits_of(args), tell)
    sides = args.resolutions or SIDES
    curves.tokens(sides)
    curves.batch(args.batch_sizes or BATCHES, sides[0])
    if args.device.type == 'cpu':
        curves.threads(thread_counts(torch.get_num_threads()), side=sides[0])
    found = GrowthFile(curves.result(), setting)
    draw = partial(growth_figure, found.growth.curves)
    return found, growth_section(found), draw


def ratios(args: argparse.Namespace, setting: Setting) -> Found:
    """Measure ratios, and write them beside what they were."""
    args.matmuls, args.exit_ratios = True, [0.5]
    build = partial(builder, args)
    found = {}
    if ops.why_unavailable('cpu', args.device) is None:
        found.update(op_ratios(min(args.repeats, 5)))
    for arch in args.arch or ('tiny', 'small'):
        for batch in args.batch_sizes or CPU_GRID['batch_sizes']:
            tell(f'{arch}, batch {batch}')
            found.update(
                model_ratios(arch, batch, build, args.repeats, args.device)
            )
    args.exit_ratios = []
    found.update(growth_exponents('tiny', build, args.repeats, args.device))
    file = RatiosFile(setting, {k: rounded(x) for k, x in found.items()})
    text = paragraphs(changes(file, args.ratios), setting_line(setting))
    write_json(args.ratios, file)
    return file, text, None


def operators(args: argparse.Namespace, setting: Setting) -> Found:
    """Compare operators."""
    rows = benchmark_ops(args.repeats, device=args.device)
    text = paragraphs(ops_section(rows), setting_line(setting))
    return {'setting': setting, 'ops': rows}, text, None


def measure(args: argparse.Namespace, setting: Setting) -> Found:
    """Run what the command line asks for."""
    if args.ops:
        return operators(args, setting)
    if args.growth:
        return growth(args, setting)
    return ratios(args, setting) if args.ratios else grid(args, setting)


@ending_cleanly()
def main(arguments: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments, __doc__)
    if args.gpu_first or args.train_minutes is not None:
        run = gpu_first if args.gpu_first else train_minutes
        with contextlib.redirect_stdout(sys.stderr), user_errors():
            text = run(args, tell)
        print(text)
        return
    with contextlib.redirect_stdout(sys.stderr), user_errors():
        check_backend(args)
        if args.threads:
            torch.set_num_threads(args.threads)
        if args.device.type == 'cpu':
            # As tools/test.py does; it serves every subject.
            keep_freed_memory()
        setting = describe_setting(args.device, args.dtype, args.backend)
        result, text, draw = measure(args, setting)
    # Before the files: what cannot be written costs no measurement.
    if args.json == '-':
        print(json.dumps(plain(result), indent=1))
    else:
        print(paragraphs(noise_note(setting), text))
    hint = 'Name another file with --json or --plot'
    with user_errors(), disk_errors('.', hint):
        if args.json and args.json != '-':
            write_json(args.json, result)
        if args.plot:
            save(draw(), args.plot)
