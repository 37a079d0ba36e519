"""Print the parameters and the cost of each stage of a model.

    python tools/analysis_tools/get_flops.py CONFIG [--convention paper|exact]
        [--refine-ratio A] [--exit-ratio R] [--shape H W] [--json]

All counts are of one image. Costs are MACs (one multiply-add of a
convolution or linear layer) plus the operations of the selective scan.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys

from mmengine.config import DictAction

# Hosts print while they are imported; the JSON alone goes to stdout.
with contextlib.redirect_stdout(sys.stderr):
    from mmscope.analysis import StageCosts, mean_cost, model_costs
    from mmscope.analysis.costs import DIRECTIONS, is_two_stage
    from mmscope.apis import UserError, user_errors
    from mmscope.evaluation.loading import (
        build_model,
        input_shape,
        open_config,
    )
    from mmscope.evaluation.tables import Column, format_table

UNCOUNTED = (
    'norms, activations, gates, token scores, position embeddings, pooling, '
    'interpolation'
)


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


def count(args: argparse.Namespace) -> dict[str, int]:
    """Build the model and count.

    Args:
        args (argparse.Namespace): Command line.

    Returns:
        dict[str, int]: ``params``, ``coarse``, ``fine``, ``reuse``,
        ``shared`` and ``mean``.

    Raises:
        UserError: If a ratio is given that the model has no use for.
    """
    cfg = open_config(args.config, args.cfg_options)
    model = build_model(cfg, device='cpu')
    if not is_two_stage(model.backbone) and (
        args.exit_ratio or args.refine_ratio is not None
    ):
        raise UserError(
            f'{type(model.backbone).__name__} neither exits nor refines; '
            'leave --exit-ratio and --refine-ratio out'
        )
    shape = tuple(args.shape or input_shape(cfg, model))
    costs = model_costs(model, shape, args.convention, args.refine_ratio)
    return {
        'params': sum(p.numel() for p in model.parameters()),
        **stage_counts(costs),
        'mean': round(mean_cost(costs, args.exit_ratio)),
    }


def stage_counts(costs: StageCosts) -> dict[str, int]:
    """List the MACs of the parts."""
    return {
        name: getattr(costs, name)
        for name in ('coarse', 'fine', 'reuse', 'shared')
    }


def table(counts: dict[str, int]) -> str:
    """Format the counts for people.

    Args:
        counts (dict[str, int]): Output of :func:`count`.

    Returns:
        str: Table in millions of parameters and GMACs.
    """
    rows = [{'part': 'params', 'count': f'{counts["params"] / 1e6:.3f} M'}]
    rows += [
        {'part': name, 'count': f'{value / 1e9:.3f} GMACs'}
        for name, value in counts.items()
        if name != 'params'
    ]
    return format_table(rows, [Column('part', ''), Column('count', 'count')])


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):
        with user_errors(ValueError, KeyError, TypeError):
            counts = count(args)
    if args.json:
        print(json.dumps(counts))
        return
    print(table(counts))
    print(f'convention: {args.convention}; exit ratio: {args.exit_ratio:g}')
    print(f'not counted: {UNCOUNTED}')


if __name__ == '__main__':
    main()
