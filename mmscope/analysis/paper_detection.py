"""The paper's COCO table with our numbers beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from mmscope.analysis.costs import StageCosts
from mmscope.analysis.detectors import Regions, count_behind, find_regions
from mmscope.analysis.model_costs import closed_form
from mmscope.analysis.paper import TABLE3, PaperRow
from mmscope.analysis.paper_results import Point, Results

VIM = 'vim_ti_cascade_mask_rcnn'
SCOPE = 'mambascope_ti_cascade_mask_rcnn'
LITE = '_lite'


@dataclass(frozen=True)
class DetectorCosts:
    """One detector, costed at the image size that it is made for.

    Args:
        params (int): Parameters.
        side (int): Side of the square image in pixels.
        regions (Regions): What reaches its heads at most.
        channels (int): Of the maps that its heads see.
        paper (StageCosts): MACs, one scan direction.
        exact (StageCosts): MACs, both directions.
    """

    params: int
    side: int
    regions: Regions
    channels: int
    paper: StageCosts
    exact: StageCosts


def detector(model: nn.Module) -> DetectorCosts:
    """Cost a two-stage detector.

    Args:
        model (nn.Module): On the ``meta`` device.

    Returns:
        DetectorCosts: The backbone by its closed form, everything behind it
        counted as it runs.
    """
    backbone = model.backbone
    shape = backbone.img_size
    regions = find_regions(model)
    outside = count_behind(model, shape, regions)
    return DetectorCosts(
        sum(p.numel() for p in model.parameters()),
        shape[0],
        regions,
        model.rpn_head.in_channels,
        *(
            closed_form(model, shape, outside, name)
            for name in ('paper', 'exact')
        ),
    )


def break_even(vim: StageCosts, scope: StageCosts) -> float:
    """Find the exit ratio at which both stages cost what one ViM does.

    Args:
        vim (StageCosts): The single stage.
        scope (StageCosts): Coarse and fine stage, with the same heads.

    Returns:
        float: r of coarse + (1 - r) * (fine + reuse) = vim.
    """
    return (scope.full - vim.full) / (scope.fine + scope.reuse)


def most_saved(vim: StageCosts, scope: StageCosts) -> float:
    """Say what is saved if every image exits, in GMACs an image."""
    return (vim.full - scope.exited) / 1e9


COLUMNS = (
    ('model', 'model', '', None),
    ('params_paper', 'params (M) *paper*', 'g', None),
    ('params_M', '*ours*', '.2f', None),
    ('gflops', 'GFLOPs *paper*', '.0f', None),
    ('coarse', 'backbone, coarse *ours*', '.1f', None),
    ('backbone', 'backbone, both stages *ours*', '.1f', None),
    ('shared', 'neck and heads *ours*', '.1f', None),
    ('none_exit', 'total, none exits *ours*', '.1f', None),
    ('all_exit', 'total, all exit *ours*', '.1f', None),
    ('break_even', 'break-even exit ratio *ours*', '.3f', None),
    ('score_paper', 'box AP *paper*', '.1f', None),
    ('score', '*ours*', '.2f', None),
    ('mask_paper', 'mask AP *paper*', '.1f', None),
    ('mask_score', '*ours*', '.2f', None),
)


def detection_rows(
    results: Results, costs: Mapping[str, DetectorCosts], missing: str
) -> tuple[dict, ...]:
    """Put ours beside the printed rows.

    Args:
        results (Results): Accuracies of our runs.
        costs (Mapping[str, DetectorCosts]): By the stem of the config; empty
            where nothing can be built.
        missing (str): Stands for the accuracy of a model not trained.

    Returns:
        tuple[dict, ...]: Rows of ``COLUMNS``.
    """
    rows = []
    for row in TABLE3.rows:
        point = results.none_exits(row.key)
        ours = {} if row.key is None else _scores(point, missing)
        if row.key in costs:
            vim = costs[row.key.replace('mambascope', 'vim')]
            ours |= _costs(costs[row.key], vim)
        rows.append({**_printed(row), **ours})
    return tuple(rows)


def _printed(row: PaperRow) -> dict:
    return {
        'model': row.label,
        'params_paper': row.params,
        'gflops': row.gflops,
        'score_paper': row.score,
        'mask_paper': row.mask_score,
    }


def _scores(point: Point | None, missing: str) -> dict:
    if point is None:
        return {'score': missing, 'mask_score': missing}
    return {'score': point.score, 'mask_score': point.mask_score}


def _costs(found: DetectorCosts, vim: DetectorCosts) -> dict:
    costs = found.paper
    row = {
        'params': found.params,
        'params_M': found.params / 1e6,
        'backbone': (costs.full - costs.shared) / 1e9,
        'shared': costs.shared / 1e9,
        'none_exit': costs.full / 1e9,
    }
    if costs.coarse:
        row |= {
            'coarse': costs.coarse / 1e9,
            'all_exit': costs.exited / 1e9,
            'break_even': break_even(vim.paper, costs),
        }
    return row


def detection_notes(costs: Mapping[str, DetectorCosts]) -> tuple[str, ...]:
    """Say what the numbers mean, in numbers.

    Args:
        costs (Mapping[str, DetectorCosts]): Of all four of our configs.

    Returns:
        tuple[str, ...]: Sentences below the table.
    """
    vim, scope = costs[VIM], costs[SCOPE]
    lite = costs[VIM + LITE]
    printed = {row.key: row for row in TABLE3.rows}
    gap = printed[VIM].gflops - printed[SCOPE].gflops
    saved = most_saved(vim.paper, scope.paper)
    share, narrow_share = (
        100 * saved * 1e9 / one.paper.full for one in (vim, lite)
    )
    ratio = break_even(vim.paper, scope.paper)
    alone, exact_alone, both, exact_both = (
        (costs.full - costs.shared) / 1e9
        for model in (vim, scope)
        for costs in (model.paper, model.exact)
    )
    return (
        f'Ours is the detection recipe that ViM released ({vim.channels} '
        f'channels) and a narrower one (lite, {lite.channels}), on an image '
        f'of {vim.side} x {vim.side} pixels with '
        f'{vim.regions.proposals:,} proposals and {vim.regions.masks} masks, '
        'the most that the configs let through. The paper names neither '
        'widths nor numbers of regions. RoIAlign, box decoding and '
        'non-maximum suppression are not counted.',
        f'30 M parameters, {printed[VIM].gflops:.0f} G and '
        f'{printed[SCOPE].gflops:.0f} G cannot all be had: with '
        f'{vim.params / 1e6:.1f} M parameters neck and heads alone cost '
        f'{vim.paper.shared / 1e9:.1f} G, and lite, whose '
        f'{lite.paper.full / 1e9:.1f} G come near the printed cost, has '
        f'{lite.params / 1e6:.1f} M. Nothing was narrowed further to get '
        'there.',
        f'An image that does not exit costs {both:.1f} G in the backbone of '
        f'MambaScope and {alone:.1f} G in that of ViM ({exact_both:.1f} and '
        f'{exact_alone:.1f} G with both scan directions counted): exits save '
        f'something where more than {100 * ratio:.0f} % of the images leave.',
        f'If all leave, {saved:.1f} G are saved ('
        f'{most_saved(vim.exact, scope.exact):.1f} G with both directions). '
        f'That is {share:.1f} % of the detector (lite: '
        f'{narrow_share:.1f} %), since every image pays for neck and heads; '
        f'the printed rows are {gap:.0f} G apart, more than any threshold '
        'saves in either count.',
        'No threshold is printed, so our AP is that without exits.',
    )
