"""Weights say what they are, wherever they go through."""

from __future__ import annotations

import copy
from dataclasses import replace

import mmengine.runner
import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn
from torch.func import functional_call

from mmscope.models import (
    MambaReg,
    MambaScope,
    TokenViT,
    VideoMamba,
    VideoMambaScope,
    VisionMamba,
)
from mmscope.models.backbones.weights_info import KEY, WeightsInfo
from mmscope.models.layers import SummaryTokens, resize_pos_embed

ARCH = {'embed_dims': 16, 'num_layers': 2}
# 18 x 32 cells, as many as 24 x 24 have.
WIDE = (288, 512)


def make(family=VisionMamba, img_size=64, **options):
    torch.manual_seed(0)
    return family(arch=ARCH, img_size=img_size, **options)


def without_entry(model):
    """What a checkpoint holds that does not say what it is."""
    state = model.state_dict()
    del state[KEY]
    return state


@pytest.mark.parametrize(
    'family',
    [
        VisionMamba,
        VideoMamba,
        MambaReg,
        TokenViT,
        MambaScope,
        VideoMambaScope,
    ],
)
def test_it_is_the_only_key_beside_the_parameters(family):
    model = make(family)
    names = {name for name, _ in model.named_parameters()}
    assert set(model.state_dict()) - names == {KEY}
    assert names <= set(model.state_dict())


@pytest.mark.parametrize('selection', [True, False, None])
def test_its_length_is_the_same_whatever_is_selected(selection):
    # Averages and distributed checkpoints copy it in place.
    info = WeightsInfo.unpack(make(MambaScope).state_dict()[KEY])
    packed = replace(info, selection=selection).pack()
    assert len(packed) == len(info.pack())
    assert WeightsInfo.unpack(packed).selection is selection


def test_what_is_packed_is_what_is_read():
    model = make(MambaScope, WIDE, exit_threshold=0.5)
    info = model.describe()
    assert WeightsInfo.unpack(info.pack()) == info
    assert info.tables['coarse_pos_embed'].grid == (9, 16)
    assert info.summary == SummaryTokens('middle', 1)
    assert info.arch['dt_rank'] == 1
    # A scope's weights are its family's.
    assert info.family == 'ViM'


@pytest.mark.parametrize(
    ('old', 'old_grid', 'new', 'new_grid'),
    [
        (WIDE, (18, 32), 384, (24, 24)),
        (WIDE, (18, 32), (144, 256), (9, 16)),
        (512, (32, 32), (256, 1024), (16, 64)),
        (384, (24, 24), WIDE, (18, 32)),
    ],
)
def test_a_grid_of_any_shape_is_resized_from_its_own(
    old, old_grid, new, new_grid
):
    source, target = make(img_size=old), make(img_size=new)
    target.load_state_dict(source.state_dict())
    wanted = resize_pos_embed(source.pos_embed, old_grid, new_grid)
    assert torch.equal(target.pos_embed, wanted)
    # Ours afterwards, not the checkpoint's.
    assert target.describe().tables['pos_embed'].grid == new_grid


@pytest.mark.parametrize('says', [True, False])
def test_a_wide_vim_starts_a_scope_of_its_size(says):
    source = make(img_size=(96, 160))
    target = make(MambaScope, (96, 160))
    state = source.state_dict() if says else without_entry(source)
    result = target.load_state_dict(state, strict=False)
    assert all(key.startswith('reuse.') for key in result.missing_keys)
    assert torch.equal(target.pos_embed, source.pos_embed)
    coarse = resize_pos_embed(source.pos_embed, (6, 10), (3, 5))
    assert torch.equal(target.coarse_pos_embed, coarse)


def test_a_coarse_table_that_somebody_took_out_starts_anew():
    source, target = make(MambaScope, (96, 160)), make(MambaScope, 64)
    state = source.state_dict()
    del state['coarse_pos_embed']
    target.load_state_dict(state)
    coarse = resize_pos_embed(source.pos_embed, (6, 10), (2, 2))
    assert torch.equal(target.coarse_pos_embed, coarse)


def test_equal_counts_of_unknown_origin_are_refused_with_a_way_out():
    source, target = make(img_size=384), make(img_size=WIDE)
    state = without_entry(source)
    with pytest.raises(ValueError, match='18 x 32, as in this model, or 24'):
        target.load_state_dict(state)
    state[KEY] = target.get_extra_state()
    target.load_state_dict(state)
    assert torch.equal(target.pos_embed, source.pos_embed)


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        (VideoMamba, VisionMamba),
        (VisionMamba, VideoMamba),
        (VideoMamba, MambaScope),
        (VideoMambaScope, MambaScope),
        (MambaScope, VideoMambaScope),
    ],
)
@pytest.mark.parametrize('strict', [True, False])
def test_another_family_is_refused_by_both_names(one, other, strict):
    target = make(other)
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(ValueError) as error:
        target.load_state_dict(make(one).state_dict(), strict=strict)
    for name in (one.family, other.family):
        assert f' {name}' in str(error.value)
    assert 'average_directions: ' in str(error.value)
    after = target.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_counts_is_the_mathematics_not_the_class():
    source = make(VideoMamba)
    target = make(summary_position='first', average_directions=False)
    target.load_state_dict(source.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(target.eval()(image)[0], source.eval()(image)[0])


def test_another_stride_is_refused_and_patch_stride_takes_it():
    dense = make(img_size=112, patch_stride=8)
    assert dense.grid == (13, 13)
    coarse = make(img_size=112)
    for one, other in ((dense, coarse), (coarse, dense)):
        with pytest.raises(ValueError, match='patch_stride: .* against'):
            other.load_state_dict(one.state_dict(), strict=False)
    again = make(img_size=112, patch_stride=8)
    nn.init.zeros_(again.pos_embed)
    again.load_state_dict(dense.state_dict())
    assert torch.equal(again.pos_embed, dense.pos_embed)


def test_released_weights_of_stride_8_are_known_by_their_27_x_27_cells():
    state = without_entry(make(img_size=224, patch_stride=8))
    with pytest.raises(ValueError, match='set patch_stride=8'):
        make(img_size=224).load_state_dict(state)
    make(img_size=224, patch_stride=8).load_state_dict(state)
    # 27 x 27 cells of stride 16, if somebody says so or has such a model.
    large = make(img_size=432)
    large.load_state_dict(state)
    state[KEY] = large.get_extra_state()
    make(img_size=224).load_state_dict(state)


@pytest.mark.parametrize('says', [True, False])
@pytest.mark.parametrize('family', [VisionMamba, VideoMamba])
@pytest.mark.parametrize('size', [64, 96])
def test_without_summary_any_summary_is_dropped(says, family, size):
    source = make(family)
    target = make(
        family,
        size,
        summary_position='none',
        out_type='featmap',
    )
    state = source.state_dict() if says else without_entry(source)
    target.load_state_dict(state)
    patches, _ = source.summary_tokens.split(source.pos_embed)
    none = SummaryTokens('none', 0)
    side = size // 16
    wanted = resize_pos_embed(patches, (4, 4), (side, side), none)
    assert torch.equal(target.pos_embed, wanted)
    assert 'cls_token' not in target.state_dict()


def test_a_model_with_summary_refuses_weights_without():
    source = make(summary_position='none', out_type='featmap')
    with pytest.raises(ValueError, match="set summary_position='none'"):
        make().load_state_dict(source.state_dict(), strict=False)


def test_a_size_that_no_shape_shows_is_refused():
    model = make()
    info = model.describe()
    state = model.state_dict()
    state[KEY] = replace(info, arch={**info.arch, 'num_heads': 3}).pack()
    with pytest.raises(ValueError, match='num_heads: 3, expected None'):
        model.load_state_dict(state)


class Host(nn.Module):
    """What stands around a backbone."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(16, 3)


def in_host(source, target, path):
    whole = Host(source).state_dict()
    assert f'backbone.{KEY}' in whole
    Host(target).load_state_dict(whole)


def by_runner(source, target, path):
    torch.save({'state_dict': Host(source).state_dict()}, path)
    host = Host(target)
    mmengine.runner.load_checkpoint(host, str(path), strict=True)


def by_init_cfg(source, target, path):
    torch.save({'state_dict': Host(source).state_dict()}, path)
    target.init_cfg = {
        'type': 'Pretrained',
        'checkpoint': str(path),
        'prefix': 'backbone.',
    }
    target.init_weights()


def weights_only(source, target, path):
    torch.save(source.state_dict(), path)
    target.load_state_dict(torch.load(path, weights_only=True))


def safetensors(source, target, path):
    torch_files = pytest.importorskip('safetensors.torch')
    torch_files.save_file(source.state_dict(), path)
    target.load_state_dict(torch_files.load_file(path))


def averaged(source, target, path):
    average = ExponentialMovingAverage(source, momentum=0.5)
    average.update_parameters(source)
    average.update_parameters(source)
    fresh = ExponentialMovingAverage(target)
    fresh.load_state_dict(average.state_dict())
    target.load_state_dict(fresh.module.state_dict())


def averaged_with_buffers(source, target, path):
    average = ExponentialMovingAverage(
        source, momentum=0.5, update_buffers=True
    )
    for _ in range(3):
        average.update_parameters(source)
    target.load_state_dict(average.module.state_dict())


LOADERS = {
    'strict': lambda source, target, path: target.load_state_dict(
        source.state_dict()
    ),
    'assign': lambda source, target, path: target.load_state_dict(
        source.state_dict(), assign=True
    ),
    'mmengine': lambda source, target, path: mmengine.runner.load_state_dict(
        target, source.state_dict(), strict=True
    ),
    'plain dict': lambda source, target, path: mmengine.runner.load_state_dict(
        target, dict(source.state_dict()), strict=True
    ),
    # A checkpoint in half precision: 255 is exact in each dtype.
    'half': lambda source, target, path: target.load_state_dict(
        {name: value.half() for name, value in source.state_dict().items()}
    ),
    'in a host': in_host,
    'load_checkpoint': by_runner,
    'Pretrained': by_init_cfg,
    'weights_only': weights_only,
    'safetensors': safetensors,
    'EMA': averaged,
    'EMA with buffers': averaged_with_buffers,
}


@pytest.mark.parametrize('way', LOADERS)
def test_every_way_of_loading_knows_the_grid(way, tmp_path):
    source, target = make(img_size=(32, 128)), make(img_size=64)
    nn.init.zeros_(target.pos_embed)
    LOADERS[way](source, target, tmp_path / 'weights')
    wanted = resize_pos_embed(source.pos_embed, (2, 8), (4, 4))
    atol = 1e-3 if way == 'half' else 0
    assert torch.allclose(target.pos_embed, wanted, rtol=0, atol=atol)
    weight = 'layers.1.mixer.in_proj.weight'
    assert torch.allclose(
        target.state_dict()[weight],
        source.state_dict()[weight],
        rtol=0,
        atol=atol,
    )
    assert target.describe().tables['pos_embed'].grid == (4, 4)


@pytest.mark.parametrize('way', LOADERS)
def test_every_way_of_loading_refuses_another_family(way, tmp_path):
    with pytest.raises(ValueError, match='VideoMamba, and this ViM'):
        LOADERS[way](make(VideoMamba), make(), tmp_path / 'weights')


@torch.no_grad()
def test_a_functional_call_takes_the_whole_state():
    model, other = make().eval(), make(drop_path_rate=0.1).eval()
    nn.init.zeros_(other.pos_embed)
    image = torch.randn(1, 3, 64, 64)
    actual = functional_call(other, model.state_dict(), (image,))
    assert torch.equal(actual[0], model(image)[0])
    assert KEY not in vars(other)


def test_weights_of_no_device_cannot_say_it_and_load():
    state = {
        name: value.to('meta') for name, value in make().state_dict().items()
    }
    target = make(img_size=96)
    target.load_state_dict(state, assign=True)
    assert target.pos_embed.is_meta
    assert target.pos_embed.shape == (1, 37, 16)


@pytest.mark.parametrize(
    'family', [VisionMamba, VideoMamba, MambaScope, VideoMambaScope]
)
def test_a_checkpoint_that_does_not_say_it_loads_strictly(family):
    source, target = make(family), make(family)
    nn.init.zeros_(target.pos_embed)
    state = without_entry(source)
    target.load_state_dict(state)
    assert torch.equal(target.pos_embed, source.pos_embed)
    host = Host(make(family))
    whole = Host(source).state_dict()
    del whole[f'backbone.{KEY}']
    host.load_state_dict(whole)
    mmengine.runner.load_state_dict(host, whole, strict=True)


@pytest.mark.parametrize('says', [True, False])
@pytest.mark.parametrize('load', ['torch', 'mmengine'])
@pytest.mark.parametrize('host', [True, False])
def test_the_caller_keeps_the_state_that_was_given(says, load, host):
    source = make(MambaScope, 64)
    target = make(
        img_size=(96, 128), summary_position='none', out_type='featmap'
    )
    state = source.state_dict() if says else without_entry(source)
    if host:
        state = {f'backbone.{name}': value for name, value in state.items()}
        target = Host(target)
    before = dict(state)
    if load == 'torch':
        target.load_state_dict(state, strict=False)
    else:
        mmengine.runner.load_state_dict(target, state)
    assert list(state) == list(before)
    assert all(state[name] is before[name] for name in before)


FOREIGN = {
    'random bytes': torch.randint(
        256, (300,), dtype=torch.uint8, generator=torch.manual_seed(3)
    ),
    'nothing': torch.zeros(0, dtype=torch.uint8),
    'a number': torch.tensor(5),
    'averaged': torch.full((300,), 61.5),
    'a dict': {'recipe': 'fp8'},
    'other JSON': torch.tensor(list(b'[1, 2]'), dtype=torch.uint8),
    'JSON of another package': torch.tensor(
        list(b'{"family": "ResNet"}'), dtype=torch.uint8
    ),
}


@pytest.mark.parametrize('what', FOREIGN)
@pytest.mark.parametrize('strict', [True, False])
def test_an_entry_that_says_nothing_is_an_error(what, strict):
    state = make().state_dict()
    state[KEY] = FOREIGN[what]
    with pytest.raises(ValueError, match='damaged, or of another package'):
        make().load_state_dict(state, strict=strict)
    del state[KEY]
    make().load_state_dict(state)


@pytest.mark.parametrize(
    'change',
    [
        {'img_size': [64, -1]},
        {'summary': {'position': 'somewhere', 'count': 1}},
        {'tables': {'pos_embed': {'grid': [4, 4.0], 'summary': {}}}},
        {'tables': 3},
    ],
)
def test_an_entry_with_values_that_cannot_be_is_an_error(change):
    import json

    state = make().state_dict()
    told = json.loads(bytes(state[KEY].tolist()))
    told.update(change)
    text = json.dumps(told).encode()
    state[KEY] = torch.tensor(list(text), dtype=torch.uint8)
    with pytest.raises(ValueError, match='damaged'):
        make().load_state_dict(state)
