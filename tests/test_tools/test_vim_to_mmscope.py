from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from mmscope.models import (
    MambaReg,
    MambaRegScope,
    MambaScope,
    TokenViT,
    VideoMamba,
    VideoMambaScope,
    VisionMamba,
    ViTScope,
)
from mmscope.models.backbones.weights_info import KEY, WeightsInfo
from mmscope.models.layers import SummaryTokens, resize_pos_embed

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


def release(family=VisionMamba, **options):
    """A model as its authors save it: released names, a head."""
    torch.manual_seed(0)
    model = family(**{'arch': ARCH, 'img_size': 64, **options})
    state = dict(model.state_dict())
    del state[KEY]
    state['head.weight'] = torch.randn(5, 16)
    state['head.bias'] = torch.randn(5)
    return state


@pytest.fixture
def released():
    return release()


def backbone_of(state):
    """The converted backbone under its own names."""
    return {
        key.removeprefix('backbone.'): value
        for key, value in state.items()
        if key.startswith('backbone.')
    }


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


def test_the_source_is_never_written_over(tool, source, tmp_path):
    content, link = source.read_bytes(), tmp_path / 'link.pth'
    link.symlink_to(source)
    for target in (source, link):
        with pytest.raises(SystemExit, match='is SRC itself: name another'):
            tool.main([str(source), str(target)])
    assert source.read_bytes() == content


@pytest.mark.parametrize('name', ['vim.pth/new.pth', 'folder'])
def test_a_target_that_cannot_be_written_is_named(
    tool, source, tmp_path, name
):
    (tmp_path / 'folder').mkdir()
    with pytest.raises(SystemExit, match=f'error: .*{name}.*: name another'):
        tool.main([str(source), str(tmp_path / name)])


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
    old_cls, new_cls = released['pos_embed'][:, 8], resized[:, side**2 // 2]
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
        ('rope.freqs_cos', 'rotary .*and a cls token.*--source vim_seg'),
        ('cls_token_head', 'two cls tokens'),
        ('pos_embed_cls', 'is of a Mamba-Reg .*--source mamba_reg'),
        ('missing', r'1 of \d+ expected weights .*A_b_log'),
        ('grid', '12 entries, expected a square grid'),
        ('converted', 'converted already'),
        ('pos_embed', r'pos_embed has the shape \(1,\), expected 3 dim'),
        ('patch_embed.proj.weight', 'expected 4 dimensions'),
        ('layers.1.mixer.D', r'1 weights .*mixer.D \(1,\), expected \(32,\)'),
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


@pytest.mark.parametrize(
    ('kind', 'target', 'family'),
    [
        ('vim', 'vim', VisionMamba),
        ('vim', 'mambascope', MambaScope),
        ('videomamba', 'vim', VideoMamba),
        ('videomamba', 'mambascope', VideoMambaScope),
    ],
)
def test_the_file_says_what_it_is(
    tool, tmp_path, kind, target, family, capsys
):
    source = release(VideoMamba if kind == 'videomamba' else VisionMamba)
    torch.save({'model': source}, tmp_path / 'src.pth')
    out = tmp_path / 'out.pth'
    options = ['--source', kind, '--target', target]
    tool.main([str(tmp_path / 'src.pth'), str(out), *options])
    saved = torch.load(out, weights_only=True)
    assert saved['meta']['family'] == family.family
    printed = capsys.readouterr().out
    assert f'{family.family}, 4 x 4 cells of 64 pixels at stride 16' in printed
    state = backbone_of(saved['state_dict'])
    model = family(arch=ARCH, img_size=64)
    assert WeightsInfo.unpack(state[KEY]) == model.describe()
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all(key.startswith('reuse.') for key in result.missing_keys)
    assert torch.equal(model.pos_embed, source['pos_embed'])
    if target == 'mambascope':
        coarse = resize_pos_embed(
            source['pos_embed'], (4, 4), (2, 2), family.released_summary
        )
        assert torch.equal(model.coarse_pos_embed, coarse)
    other = VisionMamba if kind == 'videomamba' else VideoMamba
    with pytest.raises(ValueError, match='VideoMamba'):
        other(arch=ARCH, img_size=64).load_state_dict(state, strict=False)


def test_a_videomamba_keeps_what_it_computes(tool):
    source = release(VideoMamba)
    state, unused = tool.convert(source, 'vim', None, 'videomamba')
    assert not unused
    model = VideoMamba(arch=ARCH, img_size=64)
    model.load_state_dict(backbone_of(state))
    original = VideoMamba(arch=ARCH, img_size=64)
    original.load_state_dict(
        {k: v for k, v in source.items() if not k.startswith('head.')}
    )
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.eval()(images)[0], original.eval()(images)[0])


def test_cls_of_a_videomamba_stays_first(tool):
    source = release(VideoMamba)
    state, _ = tool.convert(source, 'mambascope', 128, 'videomamba')
    for name, side in (('pos_embed', 8), ('coarse_pos_embed', 4)):
        table = state[f'backbone.{name}']
        first = SummaryTokens('first', 1)
        patches, cls = first.split(source['pos_embed'])
        assert torch.equal(table[:, :1], cls)
        assert table.shape[1] == side**2 + 1


def test_sizes_are_read_off_the_shapes(tool):
    arch = {
        'embed_dims': 12,
        'num_layers': 3,
        'd_state': 4,
        'd_conv': 3,
        'expand': 3,
        'dt_rank': 5,
    }
    source = release(arch=arch, patch_size=8, in_channels=1)
    state, _ = tool.convert(source, 'vim', None)
    info = WeightsInfo.unpack(state[f'backbone.{KEY}'])
    assert info.arch == arch
    assert (info.patch_size, info.patch_stride) == (8, 8)
    assert (info.img_size, info.tables['pos_embed'].grid) == ((64, 64), (8, 8))


def dense(cells):
    """A released ViM with a table of that many cells a side."""
    source = release()
    source['pos_embed'] = torch.randn(1, cells**2 + 1, 16)
    return source


@pytest.mark.parametrize(
    ('cells', 'size', 'stride', 'grid'),
    [
        (14, None, None, 14),
        (14, None, 16, 14),
        (27, None, 8, 27),
        # Not 224 pixels: another size, as it is or resized.
        (24, None, None, 24),
        (24, 384, None, 24),
        (27, 432, None, 27),
        (14, 512, None, 32),
        (27, 512, 8, 63),
        # As ViM starts its models of stride 8.
        (14, 224, 8, 27),
    ],
)
def test_a_table_that_fits_size_and_stride_is_taken(
    tool, cells, size, stride, grid
):
    source = dense(cells)
    state, _ = tool.convert(source, 'vim', size, 'vim', stride)
    info = WeightsInfo.unpack(state[f'backbone.{KEY}'])
    assert info.tables['pos_embed'].grid == (grid, grid)
    assert info.patch_stride == (stride or 16)
    wanted = size or (grid - 1) * info.patch_stride + 16
    assert info.img_size == (wanted, wanted)
    actual = state['backbone.pos_embed']
    wanted = resize_pos_embed(source['pos_embed'], (cells,) * 2, (grid,) * 2)
    assert torch.equal(actual, wanted)
    model = VisionMamba(arch=ARCH, patch_stride=info.patch_stride)
    model.load_state_dict(backbone_of(state))


@pytest.mark.parametrize(
    ('cells', 'size', 'stride', 'message'),
    [
        (27, None, None, '27 x 27 cells, as 224 .*set --patch-stride 8'),
        (27, 512, None, 'set --patch-stride 8.*--img-size 432'),
        (14, None, 8, '14 x 14 cells, and 224 .* 27 x 27.*--img-size 224'),
        (14, None, 4, 'have 53 x 53'),
        (27, None, 17, 'patch_stride must lie in|have 14 x 14'),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tool, cells, size, stride, message
):
    with pytest.raises(ValueError, match=message):
        tool.convert(dense(cells), 'vim', size, 'vim', stride)


def test_patches_that_overlap_have_no_scope(tool, tmp_path):
    torch.save({'model': dense(27)}, tmp_path / 'src.pth')
    paths = [str(tmp_path / name) for name in ('src.pth', 'out.pth')]
    options = ['--patch-stride', '8', '--target', 'mambascope']
    with pytest.raises(SystemExit, match='must not overlap'):
        tool.main([*paths, *options])
    tool.main([*paths, *options[:2]])


def test_a_file_that_says_what_it_is_must_be_what_is_asked_for(tool):
    ours = VideoMamba(arch=ARCH, img_size=(32, 128)).state_dict()
    with pytest.raises(ValueError, match='is of a VideoMamba.*see --source'):
        tool.convert(dict(ours), 'vim', None)
    state, unused = tool.convert(dict(ours), 'vim', None, 'videomamba')
    assert not unused
    info = WeightsInfo.unpack(state[f'backbone.{KEY}'])
    assert info.tables['pos_embed'].grid == (2, 8)
    assert torch.equal(state['backbone.pos_embed'], ours['pos_embed'])


def test_the_released_name_of_a_videomamba_is_known(tool, tmp_path):
    path = tmp_path / 'videomamba_t16_in1k_res224.pth'
    torch.save({'model': release(VideoMamba)}, path)
    with pytest.raises(SystemExit, match='--source videomamba'):
        tool.main([str(path), str(tmp_path / 'out.pth')])
    tool.main([str(path), str(tmp_path / 'out.pth'), '--source', 'videomamba'])


def test_a_video_model_is_refused(tool):
    source = release(VideoMamba)
    source['temporal_pos_embedding'] = torch.zeros(1, 8, 16)
    with pytest.raises(ValueError, match='for videos'):
        tool.convert(source, 'vim', None, 'videomamba')


DYVM = {'type': 'mmscope.DyVM', 'prune_layers': (1,)}
DYVMS = {
    'dyvm': (VisionMamba, {}),
    'dyvm_videomamba': (VideoMamba, {}),
    'dyvm_mamba_reg': (MambaReg, {'num_registers': 3, 'cls_reduce': 2}),
    'dyvm_seg': (
        VisionMamba,
        {'summary_position': 'none', 'out_type': 'featmap'},
    ),
}


@pytest.mark.parametrize('source', DYVMS)
def test_a_dyvm_keeps_every_number_and_loads_strictly(tool, source, tmp_path):
    family, options = DYVMS[source]
    state = release(family, reduction=DYVM, **options)
    if source == 'dyvm_seg':
        # As mmseg saves it, heads and all.
        state = {f'backbone.{key}': value for key, value in state.items()}
        state['decode_head.conv_seg.bias'] = torch.zeros(3)
    path = tmp_path / 'released.pth'
    torch.save({'model': state}, path)
    tool.main([str(path), str(tmp_path / 'new.pth'), '--source', source])
    saved = torch.load(tmp_path / 'new.pth', weights_only=True)['state_dict']
    torch.manual_seed(1)
    model = family(arch=ARCH, img_size=64, reduction=DYVM, **options)
    model.load_state_dict(backbone_of(saved), strict=True)
    for name, value in model.named_parameters():
        key = f'backbone.{name}' if source == 'dyvm_seg' else name
        assert torch.equal(value, state[key])
    info = WeightsInfo.unpack(saved[f'backbone.{KEY}'])
    counts = {'dyvm_seg': 0, 'dyvm_mamba_reg': 3}
    assert info.summary.count == counts.get(source, 1)
    assert ('head.fc.weight' in saved) or source == 'dyvm_seg'


def test_a_dyvm_without_a_predictor_is_reported(tool):
    state = release(reduction=DYVM)
    for name in ('score_predictors.0.out_conv.4.bias',):
        del state[name]
        with pytest.raises(ValueError, match=f'such as {name}'):
            tool.convert(state, 'vim', None, 'dyvm')
    with pytest.raises(ValueError, match='block_head'):
        tool.convert(release(), 'vim', None, 'dyvm')


def test_a_dyvm_is_no_vim_and_takes_no_scope(tool):
    state = release(reduction=DYVM)
    with pytest.raises(ValueError, match='--source dyvm'):
        tool.convert(state, 'vim', None)
    with pytest.raises(ValueError, match='a DyVM prunes tokens'):
        tool.convert(state, 'mambascope', None, 'dyvm')


@pytest.mark.parametrize('reduce', [1, 2])
def test_a_mamba_reg_keeps_every_number_and_loads_strictly(tool, reduce):
    options = {'num_registers': 3, 'cls_reduce': reduce}
    source = release(MambaReg, **options)
    state, unused = tool.convert(source, 'vim', None, 'mamba_reg')
    assert not unused
    model = MambaReg(arch=ARCH, img_size=64, **options)
    model.load_state_dict(backbone_of(state), strict=True)
    for name, value in model.named_parameters():
        assert torch.equal(value, source[name])
    described = WeightsInfo.unpack(state[f'backbone.{KEY}'])
    assert described == model.describe()
    scope, _ = tool.convert(source, 'mambascope', 128, 'mamba_reg')
    model = MambaRegScope(arch=ARCH, img_size=128, **options)
    result = model.load_state_dict(backbone_of(scope), strict=False)
    assert not result.unexpected_keys
    assert all(key.startswith('reuse.') for key in result.missing_keys)
    assert model.coarse_pos_embed.shape == (1, 16, 16)
    with pytest.raises(ValueError, match='such as pos_embed_cls'):
        tool.convert(release(), 'vim', None, 'mamba_reg')


def timm(model):
    """A TokenViT under the names of timm, with a head."""
    names = {
        'ffn.layers.0.0': 'mlp.fc1',
        'ffn.layers.1': 'mlp.fc2',
        'ln1': 'norm1',
        'ln2': 'norm2',
        'norm_f': 'norm',
        'layers': 'blocks',
    }
    found = {'head.weight': torch.randn(5, 16), 'head.bias': torch.zeros(5)}
    for key, value in model.named_parameters():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        found[key] = value.detach()
    return found


def test_a_deit_keeps_every_number_and_loads_strictly(tool):
    torch.manual_seed(0)
    arch = {**ARCH, 'feedforward_channels': 40}
    original = TokenViT(arch=arch, img_size=64)
    source = timm(original)
    assert 'blocks.1.mlp.fc1.weight' in source
    state, unused = tool.convert(source, 'vim', None, 'vit')
    assert not unused
    assert 'head.fc.weight' in state
    model = TokenViT(arch=arch, img_size=64)
    model.load_state_dict(backbone_of(state), strict=True)
    for name, value in original.named_parameters():
        assert torch.equal(model.get_parameter(name), value)
    scope, _ = tool.convert(source, 'mambascope', None, 'vit')
    model = ViTScope(arch=arch, img_size=64)
    result = model.load_state_dict(backbone_of(scope), strict=False)
    assert not result.unexpected_keys
    source['dist_token'] = torch.zeros(1, 1, 16)
    with pytest.raises(ValueError, match='distilled'):
        tool.convert(source, 'vim', None, 'vit')
    with pytest.raises(ValueError, match='not the model that --source says'):
        tool.convert(release(), 'vim', None, 'vit')


def test_the_heads_of_a_deit_have_64_channels(tool):
    source = timm(TokenViT(arch={'embed_dims': 128, 'num_layers': 1}))
    state, _ = tool.convert(source, 'vim', None, 'vit')
    assert WeightsInfo.unpack(state[f'backbone.{KEY}']).arch['num_heads'] == 2


DENSE = {'summary_position': 'none', 'out_type': 'featmap'}
DENSE_SOURCES = {'vim_seg': 'backbone.', 'vim_det': 'backbone.net.'}


@pytest.mark.parametrize('rope', [False, True])
@pytest.mark.parametrize('kind', DENSE_SOURCES)
def test_vims_of_dense_tasks_convert_with_their_rotary_positions(
    tool, kind, rope
):
    prefix, source = DENSE_SOURCES[kind], release(**DENSE)
    source = {k: v for k, v in source.items() if not k.startswith('head.')}
    if kind == 'vim_det':
        # Deleted there.
        del source['norm_f.weight']
    if rope:
        for name in ('rope.freqs_cos', 'rope.freqs_sin'):
            source[name] = torch.zeros(16, 16)
    # As their hosts save it, pyramid and heads beside the backbone.
    host = {f'{prefix}{key}': value for key, value in source.items()}
    host['backbone.fpn1.0.weight'] = torch.zeros(1)
    host['decode_head.conv_seg.bias'] = torch.zeros(3)
    state, unused = tool.convert(host, 'vim', None, kind)
    assert len(unused) == 2
    info = WeightsInfo.unpack(state[f'backbone.{KEY}'])
    assert (info.rope, info.summary.count) == (rope, 0)
    # The code that the others were released with added them up.
    averages = kind == 'vim_seg' and not rope
    assert info.average_directions is averages
    options = {**DENSE, 'img_size': 64, 'average_directions': averages}
    model = VisionMamba(arch=ARCH, rope=rope, **options)
    model.load_state_dict(backbone_of(state), strict=True)
    for name, value in source.items():
        if not name.startswith('rope.'):
            assert torch.equal(model.get_parameter(name), value)
    other = VisionMamba(arch=ARCH, rope=not rope, **options)
    with pytest.raises(ValueError, match='rope'):
        other.load_state_dict(backbone_of(state))
    with pytest.raises(ValueError, match='a scope takes ImageNet weights'):
        tool.convert(host, 'mambascope', None, kind)
    # Of a backbone that somebody took out.
    alone, unused = tool.convert(source, 'vim', None, kind)
    assert not unused
    assert set(alone) == set(state)
    with pytest.raises(ValueError, match='--source vim_seg, vim_det'):
        tool.convert(host, 'vim', None)


@torch.no_grad()
def test_a_deit_starts_the_transformer_of_vitdet(tool):
    models = pytest.importorskip(
        'mmpretrain.models', reason='needs mmpretrain'
    )
    original = TokenViT(
        arch=ARCH, img_size=64, out_type='featmap', last_norm=False
    ).eval()
    source = timm(original)
    state, unused = tool.convert(source, 'vitdet', None, 'vit')
    assert unused == ['head.bias', 'head.weight']
    arch = {'num_heads': 1, 'feedforward_channels': 64}
    # Everywhere global, which is what a plain transformer computes.
    arch |= {**ARCH, 'global_attn_indexes': [0, 1]}
    model = models.ViTSAM(arch, img_size=64, out_channels=0, use_rel_pos=False)
    model.train(False)
    weights = backbone_of(state)
    del weights[KEY]
    model.load_state_dict(weights, strict=True)
    imgs = torch.randn(1, 3, 64, 64)
    # But for the cls token, which is not there.
    alone = TokenViT(
        arch=ARCH,
        img_size=64,
        out_type='featmap',
        last_norm=False,
        summary_position='none',
    ).eval()
    alone.load_state_dict(original.state_dict())
    (actual,), (wanted,) = model(imgs), alone(imgs)
    assert (actual - wanted).abs().max() < 1e-5
    with pytest.raises(ValueError, match='is for --source vit'):
        tool.convert(release(), 'vitdet', None)


def test_the_page_of_checkpoints_lists_every_source(tool):
    page = Path(__file__).parents[2] / 'docs/families.md'
    cells = [
        row.split('|')[2]
        for row in page.read_text().splitlines()
        if row.startswith('| ') and row.count('|') == 5
    ]
    listed = {cell.strip(' `').split()[0] for cell in cells}
    assert set(tool.SOURCES) <= listed


def test_a_file_for_vitdet_holds_its_weights_alone(tool, tmp_path):
    torch.save({'model': timm(TokenViT(arch=ARCH))}, tmp_path / 'src.pth')
    paths = [str(tmp_path / name) for name in ('src.pth', 'out.pth')]
    tool.main([*paths, '--source', 'vit', '--target', 'vitdet'])
    saved = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert saved['backbone.pos_embed'].shape == (1, 14, 14, 16)
    outside = {k for k in saved if not k.startswith('backbone.layers.')}
    projection = 'backbone.patch_embed.projection'
    assert outside == {
        'backbone.pos_embed',
        f'{projection}.weight',
        f'{projection}.bias',
    }
