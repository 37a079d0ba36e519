"""Each family computes what its released model computes."""

from __future__ import annotations

import pytest
import torch
from builders import released

from mmscope.models import MambaReg, VideoMamba
from mmscope.ops import why_unavailable

RELEASED = {'videomamba_dev.npz': VideoMamba, 'mambareg_dev.npz': MambaReg}
OPTIONS = ('num_registers', 'cls_reduce')


def load(file, backend):
    """A released model with weights of its own, and what it computes."""
    config, values = released.read(file)
    if reason := why_unavailable(backend, torch.device('cpu')):
        pytest.skip(reason)
    options = {name: config[name] for name in OPTIONS if name in config}
    family = RELEASED[file]
    model = released.build(
        family, config, values, scan_backend=backend, **options
    )
    return model, values


@torch.no_grad()
@pytest.mark.parametrize('backend', ['reference', 'cpu'])
@pytest.mark.parametrize('file', RELEASED)
def test_it_computes_what_the_released_model_computes(file, backend):
    model, wanted = load(file, backend)
    middle = []
    block = model.layers[len(model.layers) // 2]
    block.register_forward_hook(lambda *call: middle.append(call[-1]))
    (features,) = model(wanted['image'])
    head = wanted['sd/head.weight'], wanted['sd/head.bias']
    logits = torch.nn.functional.linear(features, *head)
    assert released.relative(features, wanted['features']) < 1e-4
    assert released.relative(logits, wanted['logits']) < 1e-4
    tokens, residual = middle[0][:2]
    assert released.relative(tokens, wanted['mid/mixer']) < 1e-4
    assert released.relative(residual, wanted['mid/residual']) < 1e-4
    if 'register_positions' in wanted:
        places = model.summary_tokens.places(49)
        assert list(places) == wanted['register_positions'].tolist()
