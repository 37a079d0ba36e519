"""The counter sees every convolution and linear layer that runs."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmscope.analysis import SharedCostCounter


class Toy(nn.Module):
    """A backbone and a head with every kind of counted layer."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(8, 12, 3, stride=2, groups=4, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.ConvTranspose2d(12, 6, (2, 4), stride=2, groups=3),
            nn.Conv2d(6, 6, (1, 5), dilation=2),
        )
        self.cls = nn.Linear(6, 7)

    def forward(self, imgs):
        maps = self.head(self.backbone(imgs))
        return self.cls(maps.flatten(2).transpose(1, 2))


def count(fn):
    with FlopCounterMode(display=False) as flops:
        fn()
    return flops.get_total_flops() // 2


def test_counts_what_the_flop_counter_counts_outside_the_backbone():
    model = Toy().eval()
    imgs = torch.randn(2, 3, 11, 17)
    counter = SharedCostCounter(model, model.backbone)
    whole = count(lambda: model(imgs))
    assert counter.total == whole - count(lambda: model.backbone(imgs))
    assert counter.per_image(2) == counter.total / 2


def test_depthwise_convolution_by_hand():
    model = nn.Sequential(nn.Identity(), nn.Conv2d(4, 4, 3, groups=4))
    counter = SharedCostCounter(model, model[0])
    model(torch.randn(1, 4, 5, 6))
    assert counter.total == 4 * 3 * 4 * 9


def test_windows_and_views_add_up_until_reset():
    model = Toy().eval()
    counter = SharedCostCounter(model, model.backbone)
    model(torch.randn(2, 3, 9, 9))
    once = counter.total
    model(torch.randn(2, 3, 9, 9))
    model(torch.randn(2, 3, 9, 9))
    assert counter.per_image(2) == 3 * once / 2
    counter.reset()
    assert counter.total == 0


def test_removed_counter_counts_no_more():
    model = Toy().eval()
    counter = SharedCostCounter(model, model.backbone)
    counter.remove()
    model(torch.randn(1, 3, 9, 9))
    assert counter.total == 0


def test_no_image_is_an_error():
    model = Toy()
    with pytest.raises(ValueError, match='at least 1'):
        SharedCostCounter(model, model.backbone).per_image(0)
