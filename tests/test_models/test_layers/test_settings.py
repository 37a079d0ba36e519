import pytest
from torch import nn

from mmscope.models.layers import in_evaluation


def test_parts_are_left_in_the_mode_they_had():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2)))
    model.train()
    model[1][0].eval()
    before = [module.training for module in model.modules()]
    with pytest.raises(ZeroDivisionError), in_evaluation(model):
        1 / any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
