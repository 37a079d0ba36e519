"""Print the parameters and the cost of each stage of a model.

    python tools/analysis_tools/get_flops.py CONFIG [--convention paper|exact]
        [--refine-ratio A] [--exit-ratio R] [--shape H W]
        [--proposals N] [--masks M] [--json]

All counts are of one image, taken while the model runs, operator by operator.
Costs are MACs (one multiply-add of a convolution or linear layer) plus the
operations of the selective scan; FLOPs count such a multiply-add twice and
the scan's operations once. The closed form of the same costs is compared
where a backbone of ours has one; any other backbone of the hosts is counted.
What a token reduction's deciding costs beyond both conventions (matching,
alignment) is `extra`, in no other number.

The box and mask heads of a two-stage detector run on as many proposals and
detections as the config's test_cfg lets through, or as are given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import asdict

from mmengine.config import DictAction
from torch import nn

# Hosts print while they are imported; the JSON alone goes to stdout.
with contextlib.redirect_stdout(sys.stderr):
    from mmscope.analysis import (
        StageCosts,
        closed_form,
        count_costs,
        mean_cost,
    )
    from mmscope.analysis.breakdown import EXTRA, STAGES
    from mmscope.analysis.costs import DIRECTIONS
    from mmscope.analysis.detectors import (
        DetectorForward,
        between_layers,
        find_regions,
        sees_regions,
        unknown_heads,
    )
    from mmscope.cli.arguments import fraction, whole
    from mmscope.errors import UserError, user_errors
    from mmscope.evaluation.loading import (
        build_model,
        input_shape,
        open_config,
    )
    from mmscope.evaluation.tables import Column, format_table
    from mmscope.models import (
        CoarseToFine,
        TokenBackbone,
        attach_gate,
        is_two_stage,
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Parameters and cost of each stage of a model'
    )
    parser.add_argument('config', help='config file of a model')
    parser.add_argument(
        '--convention',
        choices=sorted(DIRECTIONS, reverse=True),
        default='paper',
        help='scan directions counted: one (paper) or both (exact)',
    )
    parser.add_argument(
        '--refine-ratio',
        type=fraction,
        help="fraction of the regions refined (default: the model's)",
    )
    parser.add_argument(
        '--exit-ratio',
        type=fraction,
        default=0.0,
        help='fraction of the images that leave early (default: 0)',
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help="input height and width in pixels (default: the config's)",
    )
    parser.add_argument(
        '--proposals',
        type=whole,
        help='regions that run through each box head of a two-stage detector '
        "(default: the config's test_cfg.rpn.max_per_img)",
    )
    parser.add_argument(
        '--masks',
        type=whole,
        help='detections that run through the mask head '
        "(default: the config's test_cfg.rcnn.max_per_img)",
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='config overrides'
    )
    parser.add_argument(
        '--json', action='store_true', help='print plain counts as JSON'
    )
    return parser.parse_args(argv)


def open_model(args: argparse.Namespace) -> tuple[nn.Module, tuple[int, int]]:
    """Build the model of a config.

    Args:
        args (argparse.Namespace): Command line.

    Returns:
        tuple[nn.Module, tuple[int, int]]: Model, with its gate, and the
        image (height, width) in pixels.

    Raises:
        UserError: If a ratio is given that the model has no use for.
    """
    cfg = open_config(args.config, args.cfg_options)
    model = build_model(cfg, device='cpu')
    if is_two_stage(model):
        if model.backbone.out_type == 'cls_token':
            # For a plain classifier, whose hook would do this.
            attach_gate(model)
        if args.refine_ratio is not None and not selects_regions(model):
            raise UserError(
                f'{type(model.backbone).__name__} refines whole images; '
                'leave --refine-ratio out'
            )
    elif args.exit_ratio or args.refine_ratio is not None:
        raise UserError(
            f'{type(model.backbone).__name__} neither exits nor refines; '
            'leave --exit-ratio and --refine-ratio out'
        )
    return model, tuple(args.shape or input_shape(cfg, model))


def selects_regions(model: nn.Module) -> bool:
    """Tell whether a model refines some regions of an image alone."""
    return isinstance(model.backbone, CoarseToFine)


def count(args: argparse.Namespace) -> dict:
    """Build the model and count.

    Args:
        args (argparse.Namespace): Command line.

    Returns:
        dict: ``params``; MACs ``coarse``, ``fine``, ``reuse``, ``shared``
        and ``mean``, and ``extra``, which is in none of them; the same
        under ``conventions``, by convention and unit, and under
        ``closed_form``, None for a backbone that has none; the parts of
        ``shared`` under ``shared_parts``, and the ``regions`` that they
        saw; the ``breakdown`` and what is ``uncounted``, ``left_out`` and
        ``not_run``.

    Raises:
        UserError: If config, shape or ratio are at fault.
        ValueError: If proposals or masks are given in vain.
    """
    model, shape = open_model(args)
    regions = find_regions(model, args.proposals, args.masks)
    run = DetectorForward(model, regions) if sees_regions(model) else None
    found = count_costs(model, shape, args.refine_ratio, run)
    conventions = {
        name: {
            unit: stage_counts(found.costs(name, unit), args.exit_ratio)
            for unit in ('macs', 'flops')
        }
        for name in DIRECTIONS
    }
    closed = None
    if isinstance(model.backbone, TokenBackbone):
        costs = closed_form(
            model, shape, found.outside, args.convention, args.refine_ratio
        )
        closed = stage_counts(costs, args.exit_ratio)
    return {
        'params': sum(p.numel() for p in model.parameters()),
        **conventions[args.convention]['macs'],
        'convention': args.convention,
        'exit_ratio': args.exit_ratio,
        'shape': list(shape),
        'conventions': conventions,
        'closed_form': closed,
        'shared_parts': found.shared_parts(),
        'regions': regions and asdict(regions),
        'breakdown': found.rows(args.convention),
        'uncounted': found.uncounted(),
        'left_out': between_layers(model, regions),
        'not_run': unknown_heads(model),
    }


def stage_counts(costs: StageCosts, exit_ratio: float) -> dict[str, int]:
    """List the counts of the stages, their mean over images, and extra."""
    counts = {name: getattr(costs, name) for name in (*STAGES, EXTRA)}
    return {**counts, 'mean': round(mean_cost(costs, exit_ratio))}


def report(counts: dict) -> str:
    """Format the counts for people.

    Args:
        counts (dict): Output of :func:`count`.

    Returns:
        str: Stages, parts of the model, and what is not counted.
    """
    return '\n\n'.join(
        [
            headline(counts),
            stage_table(counts),
            *shared_lines(counts),
            closed_form_line(counts),
            f'parts in the convention {counts["convention"]!r}:',
            part_table(counts['breakdown']),
            'not counted, besides activations inside our own operators (class '
            'of the module around it, calls, values written):',
            uncounted_table(counts['uncounted']),
        ]
    )


def closed_form_line(counts: dict) -> str:
    """Compare the count with the closed form."""
    closed = counts['closed_form']
    if closed is None:
        return 'closed form: none for this backbone'
    same = all(counts[key] == value for key, value in closed.items())
    return 'closed form: ' + ('the same' if same else f'DIFFERS: {closed}')


def headline(counts: dict) -> str:
    """Say what was counted."""
    height, width = counts['shape']
    parts = [
        f'params: {counts["params"] / 1e6:.3f} M ({counts["params"]:,})',
        f'image: {height} x {width}',
        f'exit ratio: {counts["exit_ratio"]:g}',
    ]
    if counts['regions']:
        parts += [f'{name}: {n}' for name, n in counts['regions'].items()]
    return '; '.join(parts + [f'{n} NOT RUN' for n in counts['not_run']])


def shared_lines(counts: dict) -> list[str]:
    """Say what every image pays, and what a detector does besides."""
    lines = []
    if counts['shared_parts']:
        parts = ', '.join(
            f'{part} {macs / 1e9:.3f}'
            for part, macs in counts['shared_parts'].items()
        )
        lines.append(f'shared, in GMACs: {parts}')
    if counts['left_out']:
        lines.append(
            'left out, since no convention counts any of it: '
            + ', '.join(counts['left_out'])
        )
    return lines


def stage_table(counts: dict) -> str:
    """Format the cost of each stage, in both conventions and units."""
    found = {
        f'{name} {unit}': stages
        for name, units in counts['conventions'].items()
        for unit, stages in units.items()
    }
    rows = [
        {'stage': stage, **{key: found[key][stage] / 1e9 for key in found}}
        for stage in (*STAGES, 'mean', EXTRA)
    ]
    columns = [
        Column(f'{name} {unit}', f'{name} G{title}', '.3f')
        for name in counts['conventions']
        for unit, title in (('macs', 'MACs'), ('flops', 'FLOPs'))
    ]
    return format_table(rows, [Column('stage', ''), *columns])


def part_table(breakdown: list[dict]) -> str:
    """Format the cost of each part of each stage."""
    rows = [
        {**row, 'macs': row['macs'] / 1e6, 'flops': row['flops'] / 1e6}
        for row in breakdown
    ]
    columns = [
        Column('stage', 'stage'),
        Column('part', 'part'),
        Column('op', 'operator'),
        Column('calls', 'calls', 'd'),
        Column('macs', 'MMACs', '.3f'),
        Column('flops', 'MFLOPs', '.3f'),
    ]
    return format_table(rows, columns)


def uncounted_table(rows: list[dict]) -> str:
    """Format what ran and has no formula."""
    columns = [
        Column('where', 'where'),
        Column('op', 'operator'),
        Column('calls', 'calls', 'd'),
        Column('elements', 'values', ',d'),
    ]
    return format_table(rows, columns)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):
        with user_errors(ValueError, KeyError, TypeError):
            counts = count(args)
    print(json.dumps(counts) if args.json else report(counts))
