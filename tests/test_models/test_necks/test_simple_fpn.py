import pytest
import torch
from torch import nn

from mmscope.models import LN2d, SimpleFPN
from mmscope.registry import MODELS

LN = {'type': 'mmscope.LN2d'}


@pytest.mark.parametrize('grid', [(4, 4), (3, 5), (1, 1)])
def test_strides_are_4_to_32_and_one_pooled_level(grid):
    neck = SimpleFPN(16, 8, LN, num_outs=5)
    maps = neck((torch.randn(2, 16, *grid),))
    h, w = grid
    half = (-(-h // 2), -(-w // 2))
    quarter = (-(-half[0] // 2), -(-half[1] // 2))
    sizes = [(4 * h, 4 * w), (2 * h, 2 * w), (h, w), half, quarter]
    assert [m.shape for m in maps] == [(2, 8, *size) for size in sizes]
    assert all(m.is_contiguous() for m in maps)


def test_extra_levels_take_every_second_pixel():
    maps = SimpleFPN(16, 8, LN, num_outs=6)((torch.randn(1, 16, 8, 8),))
    assert torch.equal(maps[4], maps[3][..., ::2, ::2])
    assert torch.equal(maps[5], maps[4][..., ::2, ::2])


def test_levels_are_those_of_vitdet():
    neck = MODELS.build(
        {
            'type': 'SimpleFPN',
            'backbone_channels': 192,
            'out_channels': 256,
            'norm_cfg': LN,
        }
    )
    # By hand: deconvolutions, then 1 x 1 and 3 x 3 without bias, and norms.
    deconv = 192 * 96 * 4 + 96
    merged = [c * 256 + 256 * 256 * 9 + 4 * 256 for c in (48, 96, 192, 192)]
    top = 2 * 96 + 96 * 48 * 4 + 48
    assert sum(p.numel() for p in neck.parameters()) == (
        2 * deconv + top + sum(merged)
    )
    kinds = [type(m) for m in neck.levels[0]]
    assert kinds[:4] == [nn.ConvTranspose2d, LN2d, nn.GELU, nn.ConvTranspose2d]
    assert kinds[4:] == [nn.Conv2d, LN2d, nn.Conv2d, LN2d]


def test_every_parameter_gets_a_gradient():
    neck = SimpleFPN(16, 8, LN)
    sum(m.square().sum() for m in neck((torch.randn(1, 16, 4, 4),))).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_without_norm_convolutions_have_a_bias():
    neck = SimpleFPN(16, 8)
    kinds = {type(m).__name__ for m in neck.modules()}
    assert 'LN2d' not in kinds
    convs = [m for m in neck.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 8
    assert all(conv.bias is not None for conv in convs)


@pytest.mark.parametrize(
    ('norm', 'kind'),
    [
        ({'type': 'GN', 'num_groups': 2}, nn.GroupNorm),
        ({'type': 'BN', 'requires_grad': False}, nn.BatchNorm2d),
    ],
)
def test_norms_of_mmcv_work_too(norm, kind):
    pytest.importorskip('mmcv.cnn', reason='needs mmcv')
    neck = SimpleFPN(16, 8, norm)
    norms = [m for m in neck.modules() if isinstance(m, kind)]
    assert len(norms) == 9
    wanted = norm.get('requires_grad', True)
    assert all(m.weight.requires_grad is wanted for m in norms)
    assert 'type' in norm


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'backbone_channels': 18}, 'multiple of 4'),
        ({'backbone_channels': 0}, 'multiple of 4'),
        ({'num_outs': 3}, 'at least 4'),
        ({'norm_cfg': {'type': 'NoSuchNorm'}}, 'no registered type'),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SimpleFPN(**{'backbone_channels': 16, 'out_channels': 8, **options})


@pytest.mark.parametrize(
    ('inputs', 'message'),
    [
        ((torch.zeros(1, 16, 4, 4),) * 2, 'one map, got 2'),
        ((), 'one map, got 0'),
        (torch.zeros(1, 16, 4, 4), 'one map, got a tensor'),
        ((torch.zeros(1, 8, 4, 4),), r'\(B, 16, h, w\), got \(1, 8, 4, 4\)'),
        ((torch.zeros(1, 16),), r'got \(1, 16\)'),
    ],
)
def test_bad_inputs_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        SimpleFPN(16, 8)(inputs)
