import pytest
import torch
from torch import nn

from mmscope.models import LN2d


def test_every_pixel_is_normalised_over_its_channels():
    x = torch.randn(2, 6, 3, 5) * 4 + 1
    norm = LN2d(6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    mean = x.mean(1, keepdim=True)
    deviation = x.var(1, correction=0, keepdim=True).add(1e-6).sqrt()
    wanted = (x - mean) / deviation * norm.weight[:, None, None]
    wanted = wanted + norm.bias[:, None, None]
    assert torch.allclose(norm(x), wanted, atol=1e-5)


def test_the_result_is_contiguous_and_no_roi_is_fine():
    norm = LN2d(6)
    assert norm(torch.randn(2, 6, 3, 5)).is_contiguous()
    assert norm(torch.zeros(0, 6, 3, 5)).shape == (0, 6, 3, 5)


@pytest.mark.parametrize('shape', [(2, 5, 3, 6), (2, 6, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r'LN2d\(6\) expects maps'):
        LN2d(6)(torch.zeros(shape))


def test_conv_modules_build_it_and_spare_it_from_weight_decay():
    pytest.importorskip('mmcv', reason='needs mmcv')
    from mmcv.cnn import ConvModule
    from mmengine.optim import DefaultOptimWrapperConstructor

    cfg = {'type': 'mmscope.LN2d', 'eps': 1e-4}
    layer = ConvModule(3, 6, 1, norm_cfg=cfg)
    assert type(layer.ln) is LN2d
    assert layer.ln.eps == 1e-4
    assert layer(torch.zeros(1, 3, 4, 4)).shape == (1, 6, 4, 4)
    optimizer = DefaultOptimWrapperConstructor(
        {'optimizer': {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.1}},
        {'norm_decay_mult': 0.0},
    )(layer).optimizer
    decays = {
        id(p): group['weight_decay']
        for group in optimizer.param_groups
        for p in group['params']
    }
    assert decays[id(layer.ln.weight)] == 0.0
    assert decays[id(layer.conv.weight)] == 0.1
