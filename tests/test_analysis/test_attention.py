"""Attention is counted, whichever kernel computes it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmscope.analysis.op_trace import OpTrace
from mmscope.benchmark.models import build_deit, why_no_deit


class Attention(nn.Module):
    def forward(self, query, key, value):
        return F.scaled_dot_product_attention(query, key, value)


def counted(model, *inputs):
    with torch.no_grad(), OpTrace(model) as trace:
        model(*inputs)
    return sum(call.cost or 0 for call in trace.calls)


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('others', [7, 12])
def test_attention_is_two_products_a_head(device, others):
    query = torch.zeros(2, 3, 7, 16, device=device)
    key, value = (torch.zeros(2, 3, others, 16, device=device),) * 2
    wanted = 2 * 3 * 7 * others * (16 + 16)
    assert counted(Attention(), query, key, value) == wanted


@pytest.mark.parametrize(('arch', 'giga'), [('tiny', 1.254), ('small', 4.599)])
def test_deit_costs_its_layers_and_its_attention(arch, giga):
    if reason := why_no_deit():
        pytest.skip(reason)
    model = build_deit(arch, 224, None).eval()
    assert counted(model, torch.zeros(1, 3, 224, 224)) / 1e9 == pytest.approx(
        giga, abs=0.0005
    )
