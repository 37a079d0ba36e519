from __future__ import annotations

import pytest
from torch.utils.flop_counter import FlopCounterMode

from mmscope.analysis import stage_costs
from mmscope.analysis.costs import scan_cost
from mmscope.benchmark.gpu.scale import TINY
from mmscope.benchmark.models import build_vim, model_macs
from mmscope.benchmark.products import products_run, vim_products


def not_products(vim, tokens):
    """Scan and depthwise convolution of both directions."""
    mixer = vim.layers[0].mixer
    conv = 2 * tokens * mixer.d_conv * mixer.d_inner
    scan = scan_cost(tokens, mixer.d_inner, mixer.d_state, directions=2)
    return vim.num_layers * (conv + scan)


def test_the_floor_has_the_macs_of_the_analysis():
    model = build_vim(TINY, 64)
    macs = sum(product.macs for product in vim_products(model, 64))
    whole = model_macs(model, 64).full
    assert macs == whole - not_products(model.backbone, 17)


def test_the_floor_runs_what_it_counts():
    products = vim_products(build_vim(TINY, 64), 64)
    run = products_run(products, 2)
    with FlopCounterMode(display=False) as counter:
        run()
    # PyTorch counts two for each multiply-add.
    macs = sum(product.macs for product in products)
    assert counter.get_total_flops() == 2 * 2 * macs


@pytest.mark.parametrize('neck', ['none', 'fpn'])
def test_costs_of_a_subject_are_those_of_the_analysis_and_its_top(neck):
    model = build_vim(TINY, 64, neck)
    costs = stage_costs(model.backbone, (4, 4), 'exact')
    top = model_macs(model, 64).full - costs.full
    if neck == 'none':
        assert top == 16 * 1000
    else:
        # The 3 x 3 convolutions of strides 4, 8, 16 and 32 alone.
        assert top > sum(s * s for s in (16, 8, 4, 2)) * 256 * 256 * 9
