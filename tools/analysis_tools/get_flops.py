"""Print the parameters and the cost of each stage of a model.

    python tools/analysis_tools/get_flops.py CONFIG [--convention paper|exact]
        [--refine-ratio A] [--exit-ratio R] [--shape H W] [--json]

All counts are of one image, taken while the model runs, operator by operator.
Costs are MACs (one multiply-add of a convolution or linear layer) plus the
operations of the selective scan; FLOPs count such a multiply-add twice and
the scan's operations once. The closed form of the same costs is compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable

from mmengine.config import DictAction
from torch import Tensor, nn

# Hosts print while they are imported; the JSON alone goes to stdout.
with contextlib.redirect_stdout(sys.stderr):
    from mmscope.analysis import (
        StageCosts,
        closed_form,
        count_costs,
        mean_cost,
    )
    from mmscope.analysis.breakdown import STAGES
    from mmscope.analysis.costs import DIRECTIONS, is_two_stage
    from mmscope.apis import UserError, user_errors
    from mmscope.evaluation.loading import (
        build_model,
        input_shape,
        open_config,
    )
    from mmscope.evaluation.tables import Column, format_table
    from mmscope.models.scoping import attach_gate


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
    backbone = model.backbone
    if is_two_stage(backbone):
        if backbone.gate is None and getattr(model, 'head', None) is not None:
            # A plain classifier, whose hook would do this.
            attach_gate(model)
    elif args.exit_ratio or args.refine_ratio is not None:
        raise UserError(
            f'{type(backbone).__name__} neither exits nor refines; '
            'leave --exit-ratio and --refine-ratio out'
        )
    return model, tuple(args.shape or input_shape(cfg, model))


def dense_part(model: nn.Module) -> Callable[[Tensor], object] | None:
    """Find what a two-stage detector runs on every image alike.

    Its box and mask heads run on proposals and detections, whose number is
    the weights' doing.

    Args:
        model (nn.Module): Host model.

    Returns:
        Callable | None: Runs backbone, neck and region proposals; None where
        the whole model can run.
    """
    if not hasattr(model, 'roi_head'):
        return None
    return lambda imgs: model.rpn_head(model.extract_feat(imgs))


def count(args: argparse.Namespace) -> dict:
    """Build the model and count.

    Args:
        args (argparse.Namespace): Command line.

    Returns:
        dict: ``params``; MACs ``coarse``, ``fine``, ``reuse``, ``shared``
        and ``mean``; the same under ``conventions``, by convention and
        unit, and under ``closed_form``; the ``breakdown`` and what is
        ``uncounted`` and ``not_run``.

    Raises:
        UserError: If config, shape or ratio are at fault.
    """
    model, shape = open_model(args)
    run = dense_part(model)
    found = count_costs(model, shape, args.refine_ratio, run)
    conventions = {
        name: {
            unit: stage_counts(found.costs(name, unit), args.exit_ratio)
            for unit in ('macs', 'flops')
        }
        for name in DIRECTIONS
    }
    closed = closed_form(
        model, shape, found.outside, args.convention, args.refine_ratio
    )
    return {
        'params': sum(p.numel() for p in model.parameters()),
        **conventions[args.convention]['macs'],
        'convention': args.convention,
        'exit_ratio': args.exit_ratio,
        'shape': list(shape),
        'conventions': conventions,
        'closed_form': stage_counts(closed, args.exit_ratio),
        'breakdown': found.rows(args.convention),
        'uncounted': found.uncounted(),
        'not_run': [] if run is None else ['roi_head'],
    }


def stage_counts(costs: StageCosts, exit_ratio: float) -> dict[str, int]:
    """List the counts of the stages and their mean over images."""
    counts = {name: getattr(costs, name) for name in STAGES}
    return {**counts, 'mean': round(mean_cost(costs, exit_ratio))}


def report(counts: dict) -> str:
    """Format the counts for people.

    Args:
        counts (dict): Output of :func:`count`.

    Returns:
        str: Stages, parts of the model, and what is not counted.
    """
    height, width = counts['shape']
    left_out = ''.join(f'; {name} NOT RUN' for name in counts['not_run'])
    head = (
        f'params: {counts["params"] / 1e6:.3f} M ({counts["params"]:,}); '
        f'image: {height} x {width}; exit ratio: {counts["exit_ratio"]:g}'
        + left_out
    )
    same = all(counts[k] == v for k, v in counts['closed_form'].items())
    return '\n\n'.join(
        [
            head,
            stage_table(counts),
            'closed form: '
            + ('the same' if same else f'DIFFERS: {counts["closed_form"]}'),
            f'parts in the convention {counts["convention"]!r}:',
            part_table(counts['breakdown']),
            'not counted, besides activations inside our own operators (class '
            'of the module around it, calls, values written):',
            uncounted_table(counts['uncounted']),
        ]
    )


def stage_table(counts: dict) -> str:
    """Format the cost of each stage, in both conventions and units."""
    found = {
        f'{name} {unit}': stages
        for name, units in counts['conventions'].items()
        for unit, stages in units.items()
    }
    rows = [
        {'stage': stage, **{key: found[key][stage] / 1e9 for key in found}}
        for stage in (*STAGES, 'mean')
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


if __name__ == '__main__':
    main()
