"""Settings and modes for a while."""

from contextlib import suppress
from types import SimpleNamespace

import pytest
from torch import nn

from mmscope.models.layers import holding, in_evaluation


def test_parts_are_left_in_the_mode_they_had():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2)))
    model.train()
    model[1][0].eval()
    before = [module.training for module in model.modules()]
    with pytest.raises(ZeroDivisionError), in_evaluation(model):
        1 / any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before


def test_what_was_not_there_is_gone_afterwards():
    owner = SimpleNamespace(kept=1)
    with suppress(KeyError), holding(owner, kept=2, added=3):
        assert vars(owner) == {'kept': 2, 'added': 3}
        raise KeyError
    assert vars(owner) == {'kept': 1}
