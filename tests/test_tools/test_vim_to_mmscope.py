from __future__ import annotations

import argparse

import pytest
import torch

from mmscope.models import MambaScope, VisionMamba
from mmscope.models.layers import remove_token

from .conftest import load_tool

# Before torch 2.4 no class can be declared safe to load.
OPTIONS = (
    {'args': argparse.Namespace(lr=0.1)}
    if hasattr(torch.serialization, 'safe_globals')
    else {}
)
ARCH = {'embed_dims': 16, 'num_layers': 2}


@pytest.fixture(scope='module')
def tool():
    return load_tool('model_converters/vim_to_mmscope.py')


@pytest.fixture
def released():
    """A ViM as its authors save it: released names, a head."""
    torch.manual_seed(0)
    model = VisionMamba(arch=ARCH, img_size=64)
    state = dict(model.state_dict())
    state['head.weight'] = torch.randn(5, 16)
    state['head.bias'] = torch.randn(5)
    return state


@pytest.fixture
def source(tmp_path, released):
    path = tmp_path / 'vim.pth'
    torch.save(
        {
            'model': released,
            'optimizer': {'state': {}},
            'model_ema': {},
            'epoch': 3,
            **OPTIONS,
        },
        path,
    )
    return path


def test_vim_round_trip_keeps_every_number(tool, source, released, tmp_path):
    tool.main([str(source), str(tmp_path / 'out' / 'new.pth')])
    saved = torch.load(tmp_path / 'out' / 'new.pth', weights_only=True)
    assert saved['meta']['target'] == 'vim'
    weights = {
        key.removeprefix('backbone.'): value
        for key, value in saved['state_dict'].items()
        if key.startswith('backbone.')
    }
    model = VisionMamba(arch=ARCH, img_size=64)
    model.load_state_dict(weights, strict=True)
    original = VisionMamba(arch=ARCH, img_size=64)
    original.load_state_dict(
        {k: v for k, v in released.items() if not k.startswith('head')}
    )
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(
        model.eval()(images)[0], original.eval()(images)[0], rtol=0, atol=0
    )
    for name in ('weight', 'bias'):
        torch.testing.assert_close(
            saved['state_dict'][f'head.fc.{name}'], released[f'head.{name}']
        )


def test_everything_unused_is_listed(tool, source, tmp_path, capsys):
    content = torch.load(source, weights_only=False)
    content['model']['stray.weight'] = torch.zeros(1)
    torch.save(content, source)
    tool.main([str(source), str(tmp_path / 'new.pth')])
    listed = capsys.readouterr().out.split('not used:')[1].split('\n')
    assert int(listed[0]) == 4 + len(OPTIONS)
    assert [line.split()[0] for line in listed[1:] if line] == [
        'stray.weight',
        'optimizer',
        'model_ema',
        'epoch',
        *OPTIONS,
    ]


def test_mambascope_target_fits_and_only_lacks_the_reuse_mlp(
    tool, source, tmp_path
):
    out = tmp_path / 'new.pth'
    tool.main([str(source), str(out), '--target', 'mambascope'])
    weights = torch.load(out, weights_only=True)['state_dict']
    assert weights['backbone.coarse_pos_embed'].shape == (1, 2 * 2 + 1, 16)
    model = MambaScope(arch=ARCH, img_size=64)
    result = model.load_state_dict(
        {
            key.removeprefix('backbone.'): value
            for key, value in weights.items()
            if key.startswith('backbone.')
        },
        strict=False,
    )
    assert not result.unexpected_keys
    assert all(key.startswith('reuse.') for key in result.missing_keys)
    assert result.missing_keys


@pytest.mark.parametrize(
    ('target', 'size', 'side'), [('vim', 80, 5), ('mambascope', 80, 6)]
)
def test_img_size_resizes_the_grid_and_keeps_cls(
    tool, released, target, size, side
):
    state, _ = tool.convert(released, target, size)
    resized = state['backbone.pos_embed']
    assert resized.shape == (1, side * side + 1, 16)
    _, old_cls = remove_token(released['pos_embed'], 8)
    _, new_cls = remove_token(resized, side * side // 2)
    torch.testing.assert_close(old_cls, new_cls)


def test_a_constant_position_embedding_stays_constant(tool, released):
    released['pos_embed'] = torch.full_like(released['pos_embed'], 0.25)
    state, _ = tool.convert(released, 'mambascope', 128)
    for name in ('pos_embed', 'coarse_pos_embed'):
        value = state[f'backbone.{name}']
        torch.testing.assert_close(value, torch.full_like(value, 0.25))


def test_ddp_names_are_understood(tool, released):
    wrapped = {f'module.{key}': value for key, value in released.items()}
    state, unused = tool.convert(wrapped, 'vim', None)
    assert 'backbone.pos_embed' in state
    assert not unused


def change(released, name):
    if name == 'missing':
        del released['layers.1.mixer.A_b_log']
    elif name == 'grid':
        released['pos_embed'] = torch.zeros(1, 12, 16)
    elif name == 'converted':
        for key in list(released):
            released[f'backbone.{key}'] = released.pop(key)
    else:
        released[name] = torch.zeros(1)


@pytest.mark.parametrize(
    ('what', 'message'),
    [
        ('rope.freqs_cos', 'rotary position embeddings .*something else'),
        ('cls_token_head', 'two cls tokens'),
        ('missing', r'1 of \d+ expected weights .*A_b_log'),
        ('grid', '12 entries, expected a square grid'),
        ('converted', 'converted already'),
    ],
)
def test_other_models_are_refused_with_the_reason(
    tool, released, what, message
):
    change(released, what)
    with pytest.raises(ValueError, match=message):
        tool.convert(released, 'vim', None)


class Payload:
    """Stands for any object that only unpickling could make."""


def test_pickled_objects_are_refused_not_executed(tool, tmp_path, released):
    path = tmp_path / 'vim.pth'
    torch.save({'model': released, 'extra': Payload()}, path)
    with pytest.raises(SystemExit, match='only unpickling.*If you trust it'):
        tool.main([str(path), str(tmp_path / 'out.pth')])
    assert not (tmp_path / 'out.pth').exists()


def test_damaged_and_missing_files_end_in_one_sentence(tool, tmp_path):
    damaged = tmp_path / 'vim.pth'
    damaged.write_bytes(b'PK\x03\x04 not a checkpoint')
    with pytest.raises(SystemExit, match='error: .*cannot be read'):
        tool.main([str(damaged), str(tmp_path / 'out.pth')])
    with pytest.raises(SystemExit, match='error: .*does not exist'):
        tool.main([str(tmp_path / 'no.pth'), str(tmp_path / 'out.pth')])
