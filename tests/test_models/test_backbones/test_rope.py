"""Rotary positions: ViM's for dense tasks, and what they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmscope.models import MambaScope, TokenViT, VisionMamba
from mmscope.models.backbones.weights_info import KEY, WeightsInfo
from mmscope.models.layers import rotary_angles, rotate

DATA = Path(__file__).parents[2] / 'data' / 'vim_rope.npz'
ARCH = {'embed_dims': 16, 'num_layers': 4}
DENSE = {
    'summary_position': 'none',
    'out_type': 'featmap',
    'out_indices': (1, 3),
    'last_norm': False,
}


def make(rope=True, **options):
    torch.manual_seed(0)
    options = {'arch': ARCH, 'img_size': 64, **DENSE, **options}
    return VisionMamba(rope=rope, **options).eval()


@pytest.fixture
def imgs():
    return torch.randn(2, 3, 64, 64, generator=torch.manual_seed(1))


def test_outputs_and_gradients_are_those_of_the_public_code():
    # On random tokens of 4 x 4 cells, run from its source.
    known = {k: torch.from_numpy(v) for k, v in np.load(DATA).items()}
    x = known['x'].requires_grad_()
    y = rotate(x, rotary_angles((4, 4), 16))
    (y * known['weight']).sum().backward()
    assert (y - known['y']).abs().max() < 1e-5
    assert (x.grad - known['grad']).abs().max() < 1e-5


def test_a_turn_by_hand():
    # Of 2 x 7 cells in 4 channels: row 1 is at 7, column 3 at 6.
    angles = rotary_angles((2, 7), 4)
    assert angles.shape == (14, 2)
    assert torch.equal(angles[7 + 3], torch.tensor([7.0, 6.0]))
    turned = rotate(torch.tensor([[[1.0, 0.0, 0.0, 2.0]]]), angles[10:11])
    wanted = np.array([np.cos(7), np.sin(7), -2 * np.sin(6), 2 * np.cos(6)])
    assert np.allclose(turned[0, 0].numpy(), wanted, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize('source', ['residual', 'mixer'])
def test_tokens_and_stream_are_turned_before_every_block(source, imgs):
    model = make(feature_source=source)
    angles = rotary_angles((4, 4), 16)
    tokens, stream, levels = (
        model.patch_embed(imgs) + model.pos_embed,
        None,
        [],
    )
    for block in model.layers:
        tokens = rotate(tokens, angles)
        stream = None if stream is None else rotate(stream, angles)
        tokens, stream, _ = block(tokens, stream)
        shown = tokens if source == 'mixer' else tokens + stream
        if source == 'residual' and block is not model.layers[-1]:
            # ViM's code takes it behind the next turn.
            shown = rotate(shown, angles)
        levels.append(shown.mT.unflatten(-1, (4, 4)))
    for actual, i in zip(model(imgs), (1, 3), strict=True):
        torch.testing.assert_close(actual, levels[i], rtol=1e-5, atol=1e-5)
    plain = make(rope=False, feature_source=source)
    assert (plain(imgs)[1] - model(imgs)[1]).abs().max() > 1e-2


@torch.no_grad()
def test_a_cls_token_at_the_front_is_left_alone(imgs):
    options = {'summary_position': 'first', 'out_type': 'cls_token'}
    model = make(**options)
    seen = []
    model.layers[0].register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    (vector,) = model(imgs)
    patches, cls = model.embed(imgs)
    assert vector.shape == (2, 16)
    assert torch.equal(seen[0][:, :1], cls)
    wanted = rotate(patches, rotary_angles((4, 4), 16))
    assert torch.equal(seen[0][:, 1:], wanted)


def test_every_weight_has_the_same_gradient_when_blocks_run_again(imgs):
    grads = []
    for with_cp in (False, True):
        model = make(with_cp=with_cp).train()
        sum(x.square().mean() for x in model(imgs)).backward()
        grads.append([p.grad for p in model.layers.parameters()])
    for one, other in zip(*grads, strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < (2, 4),
    reason='operators of others need torch >= 2.4',
)
@torch.no_grad()
def test_it_compiles_and_exports_whole(imgs):
    model = make()
    wanted = model(imgs)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    exported = torch.export.export(model, (imgs,)).module()
    for run in (compiled, exported):
        for a, b in zip(run(imgs), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_any_size_spans_the_same_positions():
    model = make()
    assert model(torch.randn(1, 3, 40, 96))[0].shape == (1, 16, 3, 6)
    small, large = rotary_angles((2, 2), 16), rotary_angles((4, 4), 16)
    assert torch.equal(small.unflatten(0, (2, 2))[1], large[8::2][:2])


def test_weights_say_whether_they_are_turned():
    turned, plain = make(), make(rope=False)
    assert WeightsInfo.unpack(turned.state_dict()[KEY]).rope is True
    turned.load_state_dict(make().state_dict())
    for one, other in ((turned, plain), (plain, turned)):
        with pytest.raises(ValueError, match='rope: .* against'):
            one.load_state_dict(other.state_dict())


def test_entries_that_are_older_than_rope_are_without():
    import json

    model = make(rope=False)
    state = model.state_dict()
    entry = json.loads(bytes(state[KEY].tolist()))
    assert entry.pop('rope') is False
    text = bytearray(json.dumps(entry).encode())
    state[KEY] = torch.frombuffer(text, dtype=torch.uint8)
    model.load_state_dict(state)
    with pytest.raises(ValueError, match='rope: False against True'):
        make().load_state_dict(state)


def test_released_tables_of_angles_load_where_they_are_meant():
    state = make().state_dict()
    del state[KEY]
    for name in ('cos', 'sin'):
        state[f'rope.freqs_{name}'] = torch.zeros(16, 16)
    make().load_state_dict(dict(state), strict=True)
    with pytest.raises(ValueError, match='build VisionMamba.rope=True'):
        make(rope=False).load_state_dict(dict(state))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'rope': 1}, 'rope must be True or False, got 1'),
        ({'rope': None}, 'rope must be True or False, got None'),
        (
            {'summary_position': 'middle', 'out_type': 'cls_token'},
            "got 'middle': set summary_position='none'",
        ),
        (
            {'arch': {'embed_dims': 18, 'num_layers': 2}, 'out_indices': -1},
            'multiple of 4, got 18',
        ),
        ({'reduction': {'type': 'mmscope.RMeeTo'}}, 'RMeeTo takes patches'),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_scope_has_none():
    with pytest.raises(ValueError, match='a scope mixes tokens of two'):
        MambaScope(arch=ARCH, rope=True, summary_position='first')
    with pytest.raises(TypeError, match='rope'):
        TokenViT(arch=ARCH, rope=True)
