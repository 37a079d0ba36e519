from __future__ import annotations

import pytest
import torch

from mmscope.analysis import stage_costs
from mmscope.analysis.costs import scan_cost
from mmscope.benchmark.models import build_vim, model_macs
from mmscope.benchmark.products import products_run, vim_products

TINY = dict(embed_dims=16, num_layers=2)


def not_products(vim, tokens):
    """Scan and depthwise convolution of both directions."""
    conv = 2 * tokens * vim.d_conv * vim.d_inner
    scan = scan_cost(tokens, vim.d_inner, vim.d_state, directions=2)
    return vim.num_layers * (conv + scan)


def test_the_floor_has_the_macs_of_the_analysis():
    model = build_vim(TINY, 64)
    macs = sum(product.macs for product in vim_products(model, 64))
    whole = model_macs(model, 64).full
    assert macs == whole - not_products(model.backbone, 17)


def test_the_floor_runs_the_shapes_of_the_model():
    vim = build_vim(TINY, 64).backbone
    seen = []

    def note(module, inputs, output):
        seen.append(output.numel() * module.weight[0].numel())

    # The step-size projections are no module calls.
    layers = [vim.patch_embed.proj]
    for block in vim.layers:
        mixer = block.mixer
        layers += [mixer.in_proj, mixer.x_proj, mixer.x_proj_b, mixer.out_proj]
    for layer in layers:
        layer.register_forward_hook(note)
    with torch.no_grad():
        vim(torch.randn(1, 3, 64, 64))

    class Holder:
        backbone = vim

    products = vim_products(Holder(), 64)
    weights = {id(layer.weight) for layer in layers}
    assert [p.macs for p in products if id(p.weight) in weights] == seen
    products_run(products, 2)()


@pytest.mark.parametrize('neck', ['none', 'fpn'])
def test_costs_of_a_contestant_are_those_of_the_analysis_and_its_top(neck):
    model = build_vim(TINY, 64, neck)
    costs = stage_costs(model.backbone, (4, 4), 'exact')
    top = model_macs(model, 64).full - costs.full
    if neck == 'none':
        assert top == 16 * 1000
    else:
        # The 3 x 3 convolutions of strides 4, 8, 16 and 32 alone.
        assert top > sum(s * s for s in (16, 8, 4, 2)) * 256 * 256 * 9
