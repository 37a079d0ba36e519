import pytest
import torch
from torch import nn

from mmscope.models import MambaScope, RMeeTo, VisionMamba
from mmscope.models.layers import BidirectionalMamba

ARCH = {'embed_dims': 16, 'num_layers': 4}


def tiny(**options):
    return VisionMamba(arch=ARCH, img_size=64, **options)


@pytest.mark.parametrize(
    ('arch', 'vim', 'mambascope'),
    [
        ('tiny', 7_148_008, 7_453_480),
        ('small', 25_796_584, 26_997_352),
        ('base', 97_598_440, 102_359_272),
    ],
)
def test_parameters_are_exact(arch, vim, mambascope):
    for cls, expected in ((VisionMamba, vim), (MambaScope, mambascope)):
        with torch.device('meta'):
            model = cls(arch=arch)
        head = 1000 * (model.embed_dims + 1)
        assert sum(p.numel() for p in model.parameters()) + head == expected


def test_parameter_names_are_the_released_ones():
    expected = {'cls_token', 'pos_embed', 'norm_f.weight'}
    expected |= {'patch_embed.proj.weight', 'patch_embed.proj.bias'}
    for i in range(4):
        expected.add(f'layers.{i}.norm.weight')
        mixer = f'layers.{i}.mixer.'
        expected |= {mixer + 'in_proj.weight', mixer + 'out_proj.weight'}
        expected |= {mixer + 'A_log', mixer + 'A_b_log'}
        for suffix in ('', '_b'):
            expected |= {
                f'{mixer}conv1d{suffix}.weight',
                f'{mixer}conv1d{suffix}.bias',
                f'{mixer}x_proj{suffix}.weight',
                f'{mixer}dt_proj{suffix}.weight',
                f'{mixer}dt_proj{suffix}.bias',
                f'{mixer}D{suffix}',
            }
    # What the weights are is stored with them, see test_weights_info.py.
    assert set(tiny().state_dict()) == expected | {'_extra_state'}


def test_initialisation_follows_the_released_one():
    torch.manual_seed(0)
    mixer = VisionMamba(arch='tiny').layers[3].mixer
    states = torch.arange(1.0, 17.0)
    assert torch.allclose(mixer.A_b_log.exp(), states.expand(384, 16))
    assert torch.equal(mixer.D, torch.ones(384))
    dt = torch.nn.functional.softplus(mixer.dt_proj_b.bias)
    assert dt.min() >= 1e-4
    assert dt.max() <= 0.1001
    bound = 1 / (384**0.5 * 24**0.5)
    largest = mixer.out_proj.weight.abs().max().item()
    assert largest == pytest.approx(bound, rel=0.01)


@pytest.mark.parametrize('size', [(64, 64), (32, 96), (50, 70), (16, 16)])
def test_maps_cover_any_image_size(size):
    model = tiny(out_type='featmap', out_indices=(0, -1)).eval()
    maps = model(torch.randn(2, 3, *size))
    cells = tuple(-(-side // 16) for side in size)
    assert [tuple(m.shape) for m in maps] == [(2, 16, *cells)] * 2
    (cls,) = tiny().eval()(torch.randn(2, 3, *size))
    assert cls.shape == (2, 16)


def test_padding_equals_an_image_padded_by_hand():
    model = tiny(out_type='featmap').eval()
    imgs = torch.randn(1, 3, 40, 64)
    by_hand = torch.zeros(1, 3, 48, 64)
    by_hand[:, :, :40] = imgs
    assert torch.equal(model(imgs)[0], model(by_hand)[0])


def test_levels_are_residual_plus_branch_and_the_last_is_normalised():
    model = tiny(out_type='featmap', out_indices=(1, 3)).eval()
    seen = {}
    for i in (1, 3):
        model.layers[i].register_forward_hook(
            lambda _m, _a, out, i=i: seen.update({i: out[0] + out[1]})
        )
    maps = model(torch.randn(1, 3, 64, 64))
    without_cls = torch.cat([seen[1][:, :8], seen[1][:, 9:]], 1)
    assert torch.equal(maps[0].flatten(2).transpose(1, 2), without_cls)
    last = model.norm_f(seen[3])
    last = torch.cat([last[:, :8], last[:, 9:]], 1)
    assert torch.equal(maps[1].flatten(2).transpose(1, 2), last)


def test_mixer_features_leave_the_residual_stream_out():
    model = tiny(
        out_type='featmap', out_indices=(1, 3), feature_source='mixer'
    ).eval()
    seen = []
    model.layers[1].register_forward_hook(
        lambda _m, _a, out: seen.append(out[0])
    )
    level = model(torch.randn(1, 3, 64, 64))[0]
    expected = torch.cat([seen[0][:, :8], seen[0][:, 9:]], 1)
    assert torch.equal(level.flatten(2).transpose(1, 2), expected)


def test_drop_path_rates_rise_and_the_last_add_has_the_full_rate():
    model = tiny(drop_path_rate=0.3)
    rates = [block.drop_path.drop_prob for block in model.layers]
    assert rates == pytest.approx([0.0, 0.0, 0.1, 0.2])
    assert model.drop_path.drop_prob == pytest.approx(0.3)


def test_frozen_stages_stay_frozen_in_training_mode():
    model = tiny(frozen_stages=2, drop_path_rate=0.5).train()
    assert not model.layers[1].training
    assert model.layers[2].training
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert {'cls_token', 'pos_embed', 'patch_embed.proj.weight'} <= frozen
    assert all(
        ('layers.0.' in n or 'layers.1.' in n) == (n in frozen)
        for n in dict(model.named_parameters())
        if n.startswith('layers.')
    )


def test_every_parameter_gets_a_gradient():
    model = tiny(out_type='featmap', out_indices=(0, 3)).train()
    sum(m.square().sum() for m in model(torch.randn(2, 3, 64, 64))).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_layer_depths_run_from_embeddings_to_the_rest():
    model = tiny()
    prefix = 'backbone.'
    depths = {
        name: model.get_layer_depth(prefix + name, prefix)
        for name, _ in model.named_parameters()
    }
    assert depths['pos_embed'] == (0, 6)
    assert depths['patch_embed.proj.bias'] == (0, 6)
    assert depths['layers.0.norm.weight'] == (1, 6)
    assert depths['layers.3.mixer.D'] == (4, 6)
    assert depths['norm_f.weight'] == (5, 6)
    assert model.get_layer_depth('decode_head.w', prefix) == (5, 6)


def test_indices_are_not_edited_in_place():
    indices = [0, -1]
    assert tiny(out_indices=indices).out_indices == (0, 3)
    assert indices == [0, -1]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'huge'}, "arch must be one of .* got 'huge'"),
        ({'arch': {'embed_dims': 8}}, "lacks .*'num_layers'"),
        ({'arch': {**ARCH, 'depth': 3}}, "unknown keys .*'depth'"),
        ({'out_indices': (0, 9)}, 'got \\(0, 9\\)'),
        ({'out_indices': (2, 1)}, 'ascending'),
        ({'out_type': 'mean'}, 'out_type must be one of'),
        ({'feature_source': 'x'}, 'feature_source must be one of'),
        ({'frozen_stages': 7}, 'frozen_stages must lie in'),
        ({'drop_path_rate': 1.5}, 'drop_path_rate must lie in'),
        ({'scan_backend': 'tirton'}, "backend must be one of .* got 'tirton'"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        VisionMamba(**{'arch': ARCH, **options})


@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        ((1, 1, 64, 64), r'expected images \(B, 3, H, W\)'),
        ((3, 64, 64), r'expected images \(B, 3, H, W\)'),
        ((1, 3, 64, 8), 'smaller than one patch'),
    ],
)
def test_bad_images_are_named(shape, message):
    with pytest.raises(ValueError, match=message):
        tiny()(torch.randn(*shape))


def test_what_is_no_tensor_is_sent_to_the_engine():
    with pytest.raises(TypeError, match='got list; .*TwoStageEngine'):
        tiny()([1])


def test_maps_of_a_model_of_16_bits_have_them_all():
    # Old CPUs and versions of torch have no matrix products of float16.
    options = {'out_type': 'featmap', 'out_indices': (0, -1)}
    model = tiny(**options).bfloat16().eval()
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 64, 64).bfloat16())
    assert [level.dtype for level in maps] == 2 * [torch.bfloat16]


def test_one_block_drops_its_path_at_the_rate():
    arch = {'embed_dims': 16, 'num_layers': 1}
    model = VisionMamba(arch=arch, img_size=64, drop_path_rate=0.3)
    assert model.drop_path.drop_prob == 0.3


def test_a_mixer_of_64_bits_rounds_no_parameter():
    mixer = BidirectionalMamba(8, 2).double()
    x = torch.randn(1, 4, 8).double()
    with torch.no_grad():
        for name in ('D', 'D_b'):
            before = mixer(x).tokens
            mixer.get_parameter(name).add_(1e-10)
            assert not torch.equal(mixer(x).tokens, before)
        before = mixer(x).tokens
        mixer.dt_proj.bias.add_(1e-10)
        assert not torch.equal(mixer(x).tokens, before)


def test_pixels_that_nobody_normalised_are_named():
    photo = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r'uint8.*data_preprocessor'):
        tiny()(photo)


def test_bfloat16_autocast_stays_close_and_keeps_the_stream_in_float32():
    torch.manual_seed(0)
    model = tiny().eval()
    imgs = torch.randn(2, 3, 64, 64)
    exact = model(imgs)[0]
    with torch.autocast('cpu', torch.bfloat16):
        half = model(imgs)[0]
    assert half.dtype == torch.float32
    assert (half - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize('dtype', [torch.float16, torch.float64])
def test_images_of_another_dtype_than_the_weights_are_named(dtype):
    imgs = torch.randn(2, 3, 64, 64).to(dtype)
    with pytest.raises(ValueError, match=f'{dtype} meet .* of torch.float32'):
        tiny().eval()(imgs)


def test_autocast_takes_images_of_16_bits():
    model, imgs = tiny().eval(), torch.randn(2, 3, 64, 64).bfloat16()
    with torch.autocast('cpu', torch.bfloat16), torch.no_grad():
        assert model(imgs)[0].isfinite().all()


@pytest.mark.parametrize(
    ('reduction', 'message'),
    [
        ('RMeeTo', r"reduction must be .*type='mmscope.RMeeTo'.*'RMeeTo'"),
        (RMeeTo(), 'reduction must be None or a dict .*RMeeTo object'),
        ({'merge_tokens': 3}, r"got {'merge_tokens': 3}"),
        ({'type': nn.Identity}, 'is a Identity, not .*RMeeTo'),
    ],
    ids=['name', 'object', 'no type', 'no reduction'],
)
def test_what_is_no_reduction_is_named(reduction, message):
    with pytest.raises(ValueError, match=message):
        tiny(reduction=reduction)
