"""The closed form gives the published numbers and what a forward spends."""

import dataclasses
import math
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmscope.analysis import (
    StageCosts,
    mean_cost,
    measured_macs,
    ran_directions,
    stage_costs,
)
from mmscope.analysis.costs import (
    block_macs,
    first_grid,
    reuse_macs,
    scan_cost,
)
from mmscope.models import (
    MambaReg,
    MambaScope,
    TokenReduction,
    VideoMamba,
    VideoMambaScope,
    VisionMamba,
    forced_decisions,
    observe,
)

ROOT = Path(__file__).parents[2]
EMBED_DIMS = {'tiny': 192, 'small': 384, 'base': 768}
SMALL = {'embed_dims': 8, 'num_layers': 4}


def on_meta(kind, arch='tiny', **options):
    with torch.device('meta'):
        return kind(arch=arch, **options)


def vim(arch='tiny', **options):
    return on_meta(VisionMamba, arch, **options)


def scope(arch='tiny', **options):
    return on_meta(MambaScope, arch, **options)


def head(arch):
    return 1000 * EMBED_DIMS[arch]


class Halving(TokenReduction):
    """Drops half of the patches before every other block but the first."""

    def install(self, backbone):
        """It fits everywhere."""

    def start(self, backbone, sequence):
        raise AssertionError('costs need no forward')

    def lengths(self, backbone, patches):
        count = backbone.summary_tokens.count
        return [
            patches // 2 ** (i // 2) + count
            for i in range(backbone.num_layers)
        ]

    def extra_macs(self, backbone, patches, directions=2):
        return 5 * patches * directions


@pytest.mark.parametrize('kind', [VisionMamba, VideoMamba])
@pytest.mark.parametrize(
    ('arch', 'gmacs'), [('tiny', 1.449), ('small', 5.076), ('base', 18.867)]
)
def test_one_stage_costs_what_the_paper_prints(kind, arch, gmacs):
    costs = stage_costs(on_meta(kind, arch), (14, 14))
    assert (costs.coarse, costs.reuse, costs.shared) == (0, 0, 0)
    assert round((costs.fine + head(arch)) / 1e9, 3) == gmacs


def test_another_family_costs_the_same_in_two_stages():
    other = on_meta(VideoMambaScope, 'small')
    for grid in ((7, 7), (3, 8)):
        assert stage_costs(other, grid) == stage_costs(scope('small'), grid)


def test_a_backbone_without_summary_tokens_pays_for_none():
    none = on_meta(
        VisionMamba, SMALL, out_type='featmap', summary_position='none'
    )
    with_cls = stage_costs(vim(SMALL), (3, 4)).fine
    one_token = 4 * none.layer_macs(1, 1)
    assert with_cls - stage_costs(none, (3, 4)).fine == one_token


def test_overlapping_patches_are_all_paid_for():
    dense = vim(patch_stride=8)
    grid = first_grid(dense, (224, 224))
    assert grid == (27, 27)
    assert stage_costs(dense, grid) == stage_costs(vim(), grid)


def test_a_token_reduction_is_costed_by_its_lengths():
    backbone = vim(SMALL, reduction={'type': Halving})
    for convention, directions in (('paper', 1), ('exact', 2)):
        blocks = sum(
            backbone.layer_macs(length, directions)
            for length in (13, 13, 7, 7)
        )
        assert stage_costs(backbone, (3, 4), convention) == StageCosts(
            0, backbone.embed_macs(12) + blocks, 0, extra=60 * directions
        )


EARLY = {'prune_layers': (2,)}


@pytest.mark.parametrize('convention', ['paper', 'exact'])
@pytest.mark.parametrize(
    ('family', 'reduction', 'options'),
    [
        (VisionMamba, {'type': 'RMeeTo', 'merge_tokens': 3}, {}),
        (VideoMamba, {'type': 'HiddenAlign', **EARLY}, {}),
        (VisionMamba, {'type': 'DyVM', **EARLY}, {}),
        (MambaReg, {'type': 'DyVM', **EARLY}, {}),
        (MambaReg, {'type': 'DyVM', **EARLY}, {'cls_reduce': 2}),
    ],
)
@torch.no_grad()
def test_measured_costs_are_the_closed_form(
    family, reduction, options, convention
):
    reduction = {**reduction, 'type': f'mmscope.{reduction["type"]}'}
    forced = nullcontext()
    if 'DyVM' in reduction['type']:
        reduction['block_keep_ratio'] = 1.0
    model = family(SMALL, img_size=64, reduction=reduction, **options).eval()
    if 'DyVM' in reduction['type']:
        every = torch.ones(4, 2, 2, dtype=torch.bool)
        forced = forced_decisions(model, blocks=every)
    with observe(model) as records, forced:
        model(torch.randn(2, 3, 64, 64))
    ran = ran_directions(records[0], 2)
    found = measured_macs(model, records[0], ran, convention)
    assert found.tolist() == [stage_costs(model, (4, 4), convention).full] * 2


@pytest.mark.parametrize(
    ('ratio', 'gmacs'),
    [(0.5, 3.24), (0.6, 3.62), (0.7, 4.01), (0.8, 4.39), (0.9, 4.77)],
)
def test_fine_pass_of_small_grows_with_the_refine_ratio(ratio, gmacs):
    costs = stage_costs(scope('small'), (7, 7), refine_ratio=ratio)
    assert round((costs.fine + head('small')) / 1e9, 2) == gmacs


def test_coarse_pass_of_small():
    costs = stage_costs(scope('small'), (7, 7))
    coarse = costs.coarse + head('small')
    assert round(coarse / 1e9, 2) == 1.29
    assert round((coarse + costs.reuse) / 1e9, 2) == 1.35


@pytest.mark.parametrize(
    ('convention', 'gmacs'), [('paper', 30.1), ('exact', 37.9)]
)
def test_vim_at_1024_px(convention, gmacs):
    costs = stage_costs(vim(), (64, 64), convention)
    assert round(costs.fine / 1e9, 1) == gmacs


def test_non_exiting_mambascope_at_1024_px():
    costs = stage_costs(scope(), (32, 32))
    assert costs.full == 33_560_137_728


def test_exact_convention_doubles_each_direction_alone():
    spec = vim({**SMALL, 'num_layers': 1})
    both = stage_costs(spec, (1, 2), 'exact').fine
    one = stage_costs(spec, (1, 2), 'paper').fine
    # 3 tokens of 16 channels: conv 4, x_proj 1 + 32, dt_proj 1, scan 146.
    assert both - one == 3 * 16 * (4 + 33 + 1 + 146)


def test_one_block_by_hand():
    # d_inner 4: in_proj 2*8 + out_proj 8 = 24, conv 8, x_proj 4 * (1 + 6),
    # dt_proj 4; scan 9 * 4 * 3 + 8 = 116 for each of the 5 tokens.
    assert scan_cost(5, d_inner=4, d_state=3) == 5 * 116
    macs = block_macs(
        5, embed_dims=2, d_inner=4, d_state=3, dt_rank=1, d_conv=2
    )
    assert macs == 5 * (24 + 8 + 28 + 4 + 116)


def test_patch_embedding_and_reuse_by_hand():
    embed = vim(SMALL, patch_size=4, img_size=32).embed_macs(6)
    assert embed == 6 * 48 * 8
    assert reuse_macs('mlp', 6, 5) == 6 * 200
    assert reuse_macs('mlp_with_cls', 6, 5) == 7 * 200
    assert reuse_macs('linear', 6, 5) == 6 * 25
    assert reuse_macs('none', 6, 5) == 0


def test_fine_pass_embeds_every_patch_whatever_the_ratio():
    none = stage_costs(scope(), (4, 5), refine_ratio=0.0)
    coarse_length = stage_costs(vim(), (4, 5))
    embed = vim().embed_macs(20)
    # The sequence is the coarse one, but 80 patches were embedded, not 20.
    assert none.fine == coarse_length.fine + 3 * embed


def test_refining_everything_costs_a_vim():
    costs = stage_costs(scope(), (7, 7), refine_ratio=1.0)
    assert costs.fine == stage_costs(vim(), (14, 14)).fine


def test_selection_switched_off_refines_everything():
    backbone = scope()
    backbone.selection = False
    off = stage_costs(backbone, (7, 7))
    assert off == stage_costs(scope(), (7, 7), refine_ratio=1.0)


def test_refined_regions_are_guarded_against_float_noise():
    # 0.7 * 10 is 7.000000000000001 in floating point.
    spec = scope(SMALL)
    noisy = stage_costs(spec, (2, 5), refine_ratio=0.7)
    assert noisy == stage_costs(spec, (2, 5), refine_ratio=0.61)
    assert spec.token_counts(10, 0.7) == (11, 32)


def test_exit_head_is_paid_in_the_coarse_pass():
    exit_head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 150}
    with_head = scope(exit_head=exit_head)
    plain, gated = (stage_costs(s, (7, 7)) for s in (scope(), with_head))
    assert gated.coarse - plain.coarse == 192 * 150
    assert gated.fine == plain.fine


@pytest.mark.parametrize('convention', ['paper', 'exact'])
def test_a_map_of_ade20k_costs_below_two_percent_of_the_coarse_stage(
    convention,
):
    cfg = Config.fromfile(ROOT / 'configs/ade20k/mambascope_ti_upernet.py')
    options = {**cfg.model.backbone, 'init_cfg': None}
    kind, head = options.pop('type'), options.pop('exit_head')
    assert kind == 'mmscope.MambaScope'
    plain, mapped = (
        stage_costs(scope(exit_head=h, **options), (16, 16), convention)
        for h in (None, {**head, 'confidence': 'map'})
    )
    added = mapped.coarse - plain.coarse
    assert added == 256 * 192 * 150
    assert added < 0.02 * plain.coarse


def test_counts_are_exact_integers():
    costs = stage_costs(scope(), torch.Size((7, 7)))
    assert all(
        type(value) is int for value in dataclasses.asdict(costs).values()
    )


def test_mean_cost_lets_exits_skip_the_fine_pass():
    costs = StageCosts(coarse=10, fine=30, reuse=2, shared=5)
    assert (costs.exited, costs.full) == (15, 47)
    assert mean_cost(costs, 1.0) == 15
    assert mean_cost(costs, 0.0) == 47
    assert mean_cost(costs, 0.25) == 10 + 0.75 * 32 + 5


@pytest.mark.parametrize('ratio', [-0.1, 1.1, math.nan])
def test_mean_cost_refuses_what_is_no_fraction(ratio):
    with pytest.raises(ValueError, match='fraction'):
        mean_cost(StageCosts(1, 1, 1), ratio)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'flops' is unknown"):
        stage_costs(vim(), (7, 7), 'flops')
    with pytest.raises(ValueError, match="'rnn' has no cost formula"):
        reuse_macs('rnn', 49, 192)
