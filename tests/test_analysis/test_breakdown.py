"""What a forward runs is what the closed form says, operator by operator."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmscope.analysis import CostBreakdown, count_costs, stage_costs
from mmscope.analysis.formulas import formula_of
from mmscope.analysis.op_trace import OpTrace
from mmscope.models import (
    MambaReg,
    MambaRegScope,
    MambaScope,
    TokenViT,
    VideoMambaScope,
    VisionMamba,
    ViTScope,
    attach_gate,
    is_two_stage,
)

# No two sizes agree, so that none can stand for another.
SMALL = {'embed_dims': 24, 'num_layers': 2, 'dt_rank': 3, 'd_conv': 3}
REUSES = ('mlp', 'linear', 'mlp_with_cls', 'none')
CONVENTIONS = ('paper', 'exact')


class Head(nn.Linear):
    """A classifier's head as hosts call it: on a tuple."""

    meaning = 'softmax'

    def forward(self, feats):
        return super().forward(feats[-1])


class Classifier(nn.Module):
    """The part of a host that costs anything."""

    def __init__(self, backbone, num_classes=7):
        super().__init__()
        self.backbone = backbone
        self.head = Head(backbone.embed_dims, num_classes)

    def forward(self, imgs, mode='tensor'):
        return self.head(self.backbone(imgs))


def on_meta(kind, arch, **options):
    with torch.device('meta'):
        # The meta device has no fast backend; asking for none is no warning.
        return kind(arch=arch, scan_backend='reference', **options).eval()


def counted(backbone, size):
    """Count both stages without a value: the operators see shapes alone."""
    imgs = torch.zeros(1, 3, *size, device='meta')
    two_stage = is_two_stage(backbone)
    with torch.no_grad(), OpTrace(backbone) as trace:
        if two_stage:
            backbone.forward_fine(imgs, backbone.forward_coarse(imgs))
        else:
            backbone(imgs)
    return CostBreakdown(trace.calls, '', two_stage, True)


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
@pytest.mark.parametrize('size', [(224, 224), (64, 160)])
def test_every_arch_of_vim_runs_its_closed_form(arch, size):
    backbone = on_meta(VisionMamba, arch)
    costs = counted(backbone, size)
    grid = (size[0] // 16, size[1] // 16)
    for convention in CONVENTIONS:
        assert costs.costs(convention) == stage_costs(
            backbone, grid, convention
        )


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
@pytest.mark.parametrize(
    ('size', 'ratio'), [((224, 224), 0.8), ((64, 160), 0.35)]
)
def test_every_arch_of_mambascope_runs_its_closed_form(arch, size, ratio):
    backbone = on_meta(MambaScope, arch, refine_ratio=ratio)
    costs = counted(backbone, size)
    grid = (size[0] // 32, size[1] // 32)
    for convention in CONVENTIONS:
        closed = stage_costs(backbone, grid, convention)
        assert costs.costs(convention) == closed
        assert 0 < closed.reuse < closed.coarse < closed.fine


@pytest.mark.parametrize(
    ('kind', 'options'),
    [
        (MambaReg, {'scan_backend': 'reference', 'cls_reduce': 4}),
        (MambaRegScope, {'scan_backend': 'reference', 'cls_reduce': 4}),
        (TokenViT, {}),
        (ViTScope, {}),
    ],
)
def test_every_other_family_runs_its_closed_form(kind, options):
    with torch.device('meta'):
        backbone = kind(arch={'embed_dims': 24, 'num_layers': 2}, **options)
    costs = counted(backbone.eval(), (64, 160))
    grid = (2, 5) if is_two_stage(backbone) else (4, 10)
    for convention in CONVENTIONS:
        closed = stage_costs(backbone, grid, convention)
        assert costs.costs(convention) == closed


@pytest.mark.parametrize('reuse', REUSES)
@pytest.mark.parametrize('ratio', [0.0, 0.5, 0.7, 1.0])
def test_every_ratio_reuse_and_grid_runs_its_closed_form(ratio, reuse):
    backbone = on_meta(
        MambaScope,
        # Two layers of the real widths.
        {'embed_dims': 192, 'num_layers': 2},
        refine_ratio=ratio,
        feature_reuse=reuse,
    )
    for grid in [(7, 7), (2, 5), (1, 1), (9, 4)]:
        costs = counted(backbone, (32 * grid[0], 32 * grid[1]))
        for convention in CONVENTIONS:
            closed = stage_costs(backbone, grid, convention)
            assert costs.costs(convention) == closed


@pytest.mark.parametrize('metric', ['detail', 'detail_and_max_norm'])
def test_detail_costs_three_operations_a_pixel(metric):
    size, grid = (64, 96), (2, 3)
    options = {'arch': SMALL, 'img_size': 64}
    plain = count_costs(Classifier(MambaScope(**options)), size).costs()
    backbone = MambaScope(**options, score_metric=metric, token_order='woven')
    costs = count_costs(Classifier(backbone), size).costs()
    assert costs == replace(plain, coarse=plain.coarse + 3 * 64 * 96)
    closed = stage_costs(backbone, grid)
    assert costs.coarse == closed.coarse
    assert costs.full == closed.full + 24 * 7


@pytest.mark.parametrize('kind', [MambaScope, VideoMambaScope])
@pytest.mark.parametrize('backend', ['auto', 'reference'])
def test_a_real_forward_of_a_host_runs_the_closed_form(kind, backend):
    model = Classifier(kind(arch=SMALL, img_size=64, scan_backend=backend))
    attach_gate(model)
    costs = count_costs(model, (40, 130), refine_ratio=0.3)
    for convention in CONVENTIONS:
        alone = stage_costs(model.backbone, (2, 5), convention, 0.3)
        found = costs.costs(convention)
        assert found.coarse == alone.coarse + 24 * 7
        assert found.fine == alone.fine + 24 * 7
        assert (found.reuse, found.shared) == (alone.reuse, 0)


def test_exit_head_and_dense_heads_have_their_places():
    model = Classifier(
        MambaScope(
            arch=SMALL,
            img_size=64,
            out_type='featmap',
            exit_head={'type': 'MultiLabelExitHead', 'num_classes': 5},
        )
    )
    model.head = nn.Conv2d(24, 4, 1)
    model.forward = lambda imgs, mode: model.head(model.backbone(imgs)[-1])
    costs = count_costs(model, (64, 64))
    closed = stage_costs(model.backbone, (2, 2))
    assert costs.costs() == replace(closed, shared=4 * 24 * 16)
    (head,) = [row for row in costs.rows() if row.part == 'exit_head']
    assert (head.stage, head.macs) == ('coarse', 24 * 5)


@pytest.mark.parametrize('kind', ['map', 'entropy'])
def test_the_gate_pays_for_the_part_of_the_head_that_it_asks(kind):
    head = {
        'type': 'MultiLabelExitHead',
        'num_classes': 5,
        'confidence': kind,
        'map_loss_weight': 1.0,
        'map_nothing': True,
    }
    model = Classifier(
        MambaScope(arch=SMALL, img_size=64, out_type='featmap', exit_head=head)
    )
    model.forward = lambda imgs, mode: model.backbone(imgs)
    costs = count_costs(model, (64, 96))
    assert costs.costs() == stage_costs(model.backbone, (2, 3))
    (row,) = [row for row in costs.rows() if row.part == 'exit_head']
    wanted = 6 * 24 * 6 if kind == 'map' else 24 * 5
    assert (row.stage, row.macs) == ('coarse', wanted)


def test_every_forward_of_a_host_has_both_stages():
    model = Classifier(MambaScope(arch=SMALL, img_size=64))
    once = count_costs(model, (64, 96)).costs()
    # As sliding windows and flips do.
    twice = count_costs(
        model, (64, 96), run=lambda imgs: [model(imgs) for _ in range(2)]
    ).costs()
    for stage in ('coarse', 'fine', 'reuse'):
        assert getattr(twice, stage) == 2 * getattr(once, stage) > 0


def test_parts_of_one_block_by_hand():
    backbone = VisionMamba(arch={**SMALL, 'num_layers': 1}, img_size=32)
    model = Classifier(backbone)
    rows = count_costs(model, (32, 48)).rows('exact')
    # 7 tokens of 24 channels, 48 inside, 16 states, rank 3, width 3.
    assert {row.part: (row.calls, row.macs) for row in rows} == {
        'patch_embed': (1, 6 * 24 * 3 * 256),
        'in_proj': (1, 7 * 24 * 96),
        'conv1d': (2, 2 * 7 * 48 * 3),
        'x_proj': (2, 2 * 7 * 48 * (3 + 32)),
        'dt_proj': (2, 2 * 7 * 3 * 48),
        'scan': (2, 2 * 7 * 48 * (9 * 16 + 2)),
        'out_proj': (1, 7 * 48 * 24),
        'head': (1, 24 * 7),
    }
    single = count_costs(model, (32, 48)).rows('paper')
    assert {row.part: row.calls for row in single} == dict.fromkeys(
        [row.part for row in rows], 1
    )


def test_flops_are_twice_the_macs_but_for_the_scan():
    model = Classifier(VisionMamba(arch=SMALL, img_size=32))
    for row in count_costs(model, (32, 32)).rows():
        factor = 1 if row.part == 'scan' else 2
        assert row.flops == factor * row.macs


def test_pytorch_counts_the_same_flops():
    from torch.utils import flop_counter

    if not hasattr(flop_counter, 'register_flop_formula'):
        pytest.skip('the counter of torch 2.1 takes no formulas')
    model = Classifier(MambaScope(arch=SMALL, img_size=64)).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model(torch.zeros(1, 3, 64, 96))
    costs = count_costs(model, (64, 96)).costs('exact', 'flops')
    assert costs.full == flops.get_total_flops()


def test_what_is_not_counted_is_named():
    model = Classifier(
        MambaScope(arch=SMALL, img_size=64, scan_backend='reference')
    )
    rows = count_costs(model, (64, 64)).uncounted()
    calls = {(row.where, row.op): row.calls for row in rows}
    # Two stages of two blocks, each with its norm, and a final norm.
    assert calls['MambaBlock', 'mmscope.add_rms_norm_cpu'] == 4
    assert calls['MambaScope', 'mmscope.add_rms_norm_cpu'] == 2
    # Four gates, eight convolutions.
    assert calls['BidirectionalMamba', 'aten.silu'] == 12
    # Token scores of one scored block, in both directions.
    assert calls['BidirectionalMamba', 'aten.softplus'] == 2
    assert calls['MambaScope', 'aten.upsample_bilinear2d'] == 1
    assert calls['GELU', 'aten.gelu'] == 1
    assert not any(op.endswith(('view', 'mm')) for _, op in calls)
    sizes = [row.elements for row in rows]
    assert sizes == sorted(sizes, reverse=True)


def test_products_written_as_functions_are_counted():
    class Attention(nn.Module):
        """Weights used through views, casts and functions."""

        def __init__(self):
            super().__init__()
            self.backbone = VisionMamba(
                arch=SMALL, img_size=32, out_type='featmap'
            )
            self.head = nn.Parameter(torch.zeros(5, 24, dtype=torch.float64))

        def forward(self, imgs, mode):
            x = self.backbone(imgs)[0].flatten(2)
            x = F.linear(x.transpose(1, 2), self.head.float().flip(0))
            return torch.einsum('blc,bmc->blm', x, x)

    rows = count_costs(Attention(), (32, 48)).rows()
    shared = {row.part: row.macs for row in rows if row.stage == 'shared'}
    assert shared == {'head': 6 * 24 * 5, 'other': 6 * 6 * 5}


@pytest.mark.parametrize(
    ('layer', 'shape'),
    [
        (nn.Conv2d(4, 6, (3, 2), stride=2, groups=2), (1, 4, 9, 8)),
        (nn.ConvTranspose2d(12, 6, (2, 4), stride=2, groups=3), (1, 12, 3, 4)),
        (nn.Conv1d(4, 4, 3, groups=4), (2, 4, 9)),
        (nn.Linear(5, 3), (2, 7, 5)),
        (nn.Bilinear(3, 4, 2), None),
        # A mean is not counted, but where it is the detail score.
        (nn.AvgPool2d(2), (1, 3, 8, 8)),
    ],
)
def test_formulas_agree_with_pytorchs(layer, shape):
    inputs = (
        [torch.zeros(shape)] if shape else [torch.zeros(5, n) for n in (3, 4)]
    )
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        layer(*inputs)
    with torch.no_grad(), OpTrace(layer) as trace:
        layer(*inputs)
    macs = sum(call.cost or 0 for call in trace.calls)
    assert 2 * macs == flops.get_total_flops()


def test_backward_operators_have_no_formula_of_a_forward():
    assert formula_of('mmscope.selective_scan_cpu') is not None
    assert formula_of('mmscope.causal_conv1d_cpu') is not None
    assert formula_of('mmscope.selective_scan_cpu_backward') is None
    assert formula_of('mmscope.causal_conv1d_cpu_backward') is None


def test_counting_leaves_the_model_as_it_was():
    model = Classifier(MambaScope(arch=SMALL, img_size=64)).train()
    backbone = model.backbone
    backbone.exit_threshold, backbone.selection = 0.4, False
    attach_gate(model)
    count_costs(model, (64, 64), refine_ratio=0.3)
    assert model.training
    assert (backbone.exit_threshold, backbone.refine_ratio) == (0.4, 0.8)
    assert not backbone.selection
    assert not any(
        module._forward_hooks or module._forward_pre_hooks
        for module in model.modules()
    )


def test_with_coverage_there_is_no_one_number_to_count():
    options = {'score_metric': 'detail', 'refine_coverage': 0.9}
    model = Classifier(MambaScope(arch=SMALL, img_size=64, **options))
    with pytest.raises(ValueError, match='give a refine_ratio to ask'):
        count_costs(model, (64, 64))
    fixed = Classifier(
        MambaScope(arch=SMALL, img_size=64, score_metric='detail')
    )
    found = count_costs(model, (64, 64), refine_ratio=0.5).costs()
    assert found == count_costs(fixed, (64, 64), refine_ratio=0.5).costs()


def test_shape_needs_two_positive_sides():
    model = Classifier(VisionMamba(arch=SMALL, img_size=32))
    with pytest.raises(ValueError, match='height, width'):
        count_costs(model, (64, 0))
    with pytest.raises(ValueError, match='refine_ratio must lie in'):
        count_costs(
            Classifier(MambaScope(arch=SMALL, img_size=64)), (64, 64), 1.5
        )


@pytest.mark.parametrize('convention', CONVENTIONS)
@pytest.mark.parametrize('ratio', [0.3, 1.0])
def test_a_dyvm_is_counted_at_the_share_that_it_aims_at(ratio, convention):
    reduction = {
        'type': 'mmscope.DyVM',
        'prune_layers': (1,),
        'block_keep_ratio': ratio,
    }
    backbone = VisionMamba(arch=SMALL, img_size=64, reduction=reduction)
    for block in backbone.layers:
        # An image of its own would run no direction.
        torch.nn.init.constant_(block.mixer.block_head.bias, -1.0)
    found = count_costs(Classifier(backbone), (64, 64))
    outside = found.outside
    closed = stage_costs(backbone, (4, 4), convention)
    assert found.costs(convention).fine == closed.fine + outside
    rows = found.rows(convention)
    parts = {row.part: row.macs for row in rows}
    assert 'block_head' not in parts
    count = {'paper': 1, 'exact': 2}[convention]
    # Taps of 48 channels, over 17 tokens, then int(0.7 * 16) and cls.
    taps = count * ratio * 3 * 48 * (17 + 12)
    assert parts['conv1d'] == round(taps)
    assert parts['in_proj'] == 2 * 48 * 24 * (17 + 12)
    # Nothing stays forced.
    assert backbone.reduction.forced.blocks is None
