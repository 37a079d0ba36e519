"""Closed forms against what PyTorch counts in a real forward."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmscope.analysis import model_costs, stage_costs
from mmscope.analysis.costs import scan_cost
from mmscope.models import MambaScope, VisionMamba, observe

# No two sizes agree, so that none can stand for another.
ARCH = {'embed_dims': 24, 'num_layers': 2, 'dt_rank': 3, 'd_conv': 3}


class Classifier(nn.Module):
    """The part of a host that costs anything."""

    def __init__(self, backbone, num_classes=7):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.summary_dims, num_classes)

    def forward(self, imgs, mode='tensor'):
        return self.head(self.backbone(imgs)[-1])


def counted_macs(backbone, imgs):
    """Count products of one image: no scan, no depthwise convolution."""
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        backbone.eval()(imgs)
    return flops.get_total_flops() // 2 // len(imgs)


def unseen_macs(backbone, tokens):
    """Scan and convolution in both directions of every block."""
    mixer = backbone.layers[0].mixer
    scan = scan_cost(tokens, mixer.d_inner, mixer.d_state, 2)
    conv = 2 * tokens * mixer.d_conv * mixer.d_inner
    return backbone.num_layers * (scan + conv)


@pytest.fixture(autouse=True)
def _only_products_are_counted(monkeypatch):
    # Backends differ in whether the counter knows their operators.
    ops = 'mmscope.ops'
    monkeypatch.setattr(
        f'{ops}.direction.causal_conv1d', lambda x, *_, **__: x
    )
    inner = f'{ops}.bidirectional'
    monkeypatch.setattr(f'{inner}.selective_scan', lambda u, *_, **__: u)
    monkeypatch.setattr(f'{inner}.can_fuse', lambda *_: False)


@pytest.mark.parametrize('size', [(32, 32), (48, 80), (90, 33)])
def test_vim_forward_spends_the_closed_form(size):
    backbone = VisionMamba(ARCH, img_size=64)
    grid = tuple(-(-side // 16) for side in size)
    macs = stage_costs(backbone, grid, 'exact').fine
    tokens = grid[0] * grid[1] + 1
    counted = counted_macs(backbone, torch.randn(2, 3, *size))
    assert counted == macs - unseen_macs(backbone, tokens)


@pytest.mark.parametrize('reuse', ['mlp', 'linear', 'mlp_with_cls', 'none'])
@pytest.mark.parametrize('ratio', [0.0, 0.35, 0.8, 1.0])
@pytest.mark.parametrize('size', [(64, 64), (40, 130)])
def test_both_stages_spend_the_closed_form(size, ratio, reuse):
    backbone = MambaScope(
        arch=ARCH, img_size=64, refine_ratio=ratio, feature_reuse=reuse
    )
    grid = tuple(-(-side // 32) for side in size)
    regions = grid[0] * grid[1]
    costs = stage_costs(backbone, grid, 'exact')
    unseen = sum(
        unseen_macs(backbone, tokens)
        for tokens in backbone.token_counts(regions)
    )
    counted = counted_macs(backbone, torch.randn(2, 3, *size))
    assert counted == costs.full - unseen


def test_exit_spends_the_coarse_pass_with_its_head():
    backbone = MambaScope(
        arch=ARCH,
        img_size=64,
        exit_head={'type': 'MultiLabelExitHead', 'num_classes': 5},
        exit_threshold=0.0,
    )
    costs = stage_costs(backbone, (2, 2), 'exact')
    counted = counted_macs(backbone, torch.randn(3, 3, 64, 64))
    assert counted == costs.exited - unseen_macs(backbone, 5)


def test_recorded_tokens_are_those_of_the_closed_form():
    backbone = MambaScope(arch=ARCH, img_size=64, refine_ratio=0.5).eval()
    with torch.no_grad(), observe(backbone) as records:
        backbone(torch.randn(1, 3, 64, 96))
    (record,) = records
    assert record.grid == (2, 3)
    assert (record.coarse_tokens, record.fine_tokens) == (7, 16)
    assert backbone.token_counts(6) == (7, 16)


def test_classifier_pays_its_head_in_both_stages():
    model = Classifier(MambaScope(arch=ARCH, img_size=64))
    alone = stage_costs(model.backbone, (2, 2))
    costs = model_costs(model, (64, 64))
    assert costs.coarse == alone.coarse + 24 * 7
    assert costs.fine == alone.fine + 24 * 7
    assert costs.shared == 0


def test_single_stage_classifier_pays_everything_in_fine():
    model = Classifier(VisionMamba(ARCH, img_size=64))
    costs = model_costs(model, (64, 64))
    alone = stage_costs(model.backbone, (4, 4))
    assert (costs.coarse, costs.shared) == (0, 0)
    assert costs.fine == alone.fine + 24 * 7


def test_counting_leaves_the_model_as_it_was():
    model = Classifier(MambaScope(arch=ARCH, img_size=64)).train()
    model.backbone.exit_threshold = 2.0
    model_costs(model, (70, 40), refine_ratio=0.3)
    assert model.training
    assert model.backbone.exit_threshold == 2.0
    assert not any(module._forward_hooks for module in model.modules())


def test_shape_needs_two_positive_sides():
    model = Classifier(VisionMamba(ARCH, img_size=64))
    with pytest.raises(ValueError, match='height, width'):
        model_costs(model, (64,))
    with pytest.raises(ValueError, match='height, width'):
        model_costs(model, (64, 0))
