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

from torch import nn

# Hosts print while they are imported; the JSON alone goes to stdout.
with contextlib.redirect_stdout(sys.stderr):
    from mmscope.analysis import StageCosts, closed_form, count_costs
    from mmscope.analysis.costs import DIRECTIONS
    from mmscope.analysis.detectors import (
        DetectorForward,
        between_layers,
        find_regions,
        sees_regions,
        unknown_heads,
    )
    from mmscope.cli.arguments import (
        add_cfg_options,
        add_convention,
        add_model,
        add_shape,
        fraction,
        tool_parser,
        whole,
    )
    from mmscope.cli.flops_report import UNITS, MeanCosts, ModelCounts
    from mmscope.errors import UserError, user_errors
    from mmscope.evaluation.loading import (
        build_model,
        input_shape,
        open_config,
    )
    from mmscope.models import (
        CoarseToFine,
        TokenBackbone,
        attach_gate,
        is_two_stage,
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    add_model(parser, checkpoint=False)
    add_convention(parser)
    add = parser.add_argument
    text = "fraction of the regions refined (default: the model's)"
    add('--refine-ratio', type=fraction, help=text)
    text = 'fraction of the images that leave early (default: 0)'
    add('--exit-ratio', type=fraction, default=0.0, help=text)
    add_shape(parser)
    text = (
        'regions that run through each box head of a two-stage detector '
        "(default: the config's test_cfg.rpn.max_per_img)"
    )
    add('--proposals', type=whole, help=text)
    text = (
        'detections that run through the mask head '
        "(default: the config's test_cfg.rcnn.max_per_img)"
    )
    add('--masks', type=whole, help=text)
    add_cfg_options(parser)
    add('--json', action='store_true', help='print plain counts as JSON')
    return parser.parse_args(argv)


def open_model(args: argparse.Namespace) -> tuple[nn.Module, tuple[int, int]]:
    """Build the model with its gate; give the image (height, width), too.

    Raises:
        UserError: If a ratio is given that the model has no use for.
    """
    cfg = open_config(args.config, args.cfg_options)
    model = build_model(cfg, device='cpu')
    name = type(model.backbone).__name__
    if is_two_stage(model):
        if model.backbone.out_type == 'cls_token':
            # For a plain classifier, whose hook would do this.
            attach_gate(model)
        selects = isinstance(model.backbone, CoarseToFine)
        if args.refine_ratio is not None and not selects:
            raise UserError(
                f'{name} refines whole images; leave --refine-ratio out'
            )
    elif args.exit_ratio or args.refine_ratio is not None:
        raise UserError(
            f'{name} neither exits nor refines; leave --exit-ratio and '
            '--refine-ratio out'
        )
    return model, tuple(args.shape or input_shape(cfg, model))


def count(args: argparse.Namespace) -> ModelCounts:
    """Build the model and count.

    Raises:
        UserError: If config, shape or ratio are at fault.
        ValueError: If proposals or masks are given in vain.
    """
    model, shape = open_model(args)
    regions = find_regions(model, args.proposals, args.masks)
    run = DetectorForward(model, regions) if sees_regions(model) else None
    found = count_costs(model, shape, args.refine_ratio, run)

    def averaged(costs: StageCosts) -> MeanCosts:
        return MeanCosts.of(costs, args.exit_ratio)

    closed = None
    if isinstance(model.backbone, TokenBackbone):
        closed = averaged(
            closed_form(
                model, shape, found.outside, args.convention, args.refine_ratio
            )
        )
    return ModelCounts(
        params=sum(p.numel() for p in model.parameters()),
        convention=args.convention,
        exit_ratio=args.exit_ratio,
        shape=shape,
        conventions={
            name: {unit: averaged(found.costs(name, unit)) for unit in UNITS}
            for name in DIRECTIONS
        },
        closed_form=closed,
        shared_parts=found.shared_parts(),
        regions=regions,
        breakdown=found.rows(args.convention),
        uncounted=found.uncounted(),
        left_out=between_layers(model, regions),
        not_run=unknown_heads(model),
    )


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):
        with user_errors(ValueError, KeyError, TypeError):
            counts = count(args)
    print(json.dumps(counts.to_json()) if args.json else counts.report())
