from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmscope.models import MambaScope, VideoMamba

ARCH = {'embed_dims': 16, 'num_layers': 2}


class Host(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.norm = nn.LayerNorm(16)
        self.fc = nn.Linear(16, 3)


def decays(model, **options):
    wrapper = build_optim_wrapper(
        model,
        {
            'type': 'OptimWrapper',
            'constructor': 'mmscope.OptimWrapperConstructor',
            'optimizer': {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.1},
            **options,
        },
    )
    names = {id(p): n for n, p in model.named_parameters()}
    groups = wrapper.optimizer.param_groups
    assert [names[id(g['params'][0])] for g in groups] == list(names.values())
    return {names[id(g['params'][0])]: g['weight_decay'] for g in groups}


SPARED = (
    'cls_token',
    'pos_embed',
    'coarse_pos_embed',
    'layers.1.norm.weight',
    'layers.1.mixer.A_log',
    'layers.1.mixer.A_b_log',
    'layers.1.mixer.D',
    'layers.1.mixer.D_b',
    'norm_f.weight',
)


@pytest.mark.parametrize('options', [{}, {'paramwise_cfg': {}}])
def test_what_the_backbone_names_does_not_decay_without_any_option(options):
    found = decays(Host(MambaScope(arch=ARCH, img_size=64)), **options)
    spared = {name for name, decay in found.items() if decay == 0.0}
    assert spared >= {f'backbone.{name}' for name in SPARED}
    # Biases and the host's norms follow MMEngine's own options.
    assert not any(name.endswith('bias') for name in spared)
    assert found['norm.weight'] == found['fc.weight'] == 0.1
    assert found['backbone.layers.0.mixer.x_proj.weight'] == 0.1


def test_a_family_to_come_is_asked_like_any_other():
    backbone = VideoMamba(arch=ARCH, img_size=64)
    backbone.no_decay_names = lambda: {'patch_embed.proj.weight'}
    found = decays(Host(backbone))
    spared = [name for name, decay in found.items() if decay == 0.0]
    assert spared == ['backbone.patch_embed.proj.weight']


def test_a_decay_of_custom_keys_wins_and_a_rate_alone_does_not():
    keys = {
        'mixer.A_log': {'decay_mult': 2.0},
        'backbone': {'lr_mult': 0.5},
        'mixer.D': {'lr_mult': 0.1},
    }
    model = Host(MambaScope(arch=ARCH, img_size=64))
    found = decays(model, paramwise_cfg={'custom_keys': keys})
    assert found['backbone.layers.0.mixer.A_log'] == 0.2
    assert found['backbone.layers.0.mixer.A_b_log'] == 0.0
    assert found['backbone.layers.0.mixer.D'] == 0.0
    assert found['backbone.pos_embed'] == 0.0


def test_sizes_stay_those_of_an_optimiser_that_resumes(tmp_path):
    model = Host(MambaScope(arch=ARCH, img_size=64))
    options = {'norm_decay_mult': 0.0, 'bias_decay_mult': 0.0}
    optimizer = SimpleNamespace(groups=decays(model, paramwise_cfg=options))
    # One group a parameter, in the order of the model: old runs resume.
    assert list(optimizer.groups) == [n for n, _ in model.named_parameters()]
    assert optimizer.groups['fc.bias'] == 0.0
    assert torch.tensor(list(optimizer.groups.values())).unique().tolist() == [
        0.0,
        pytest.approx(0.1),
    ]


def test_shared_and_parametrised_parameters_are_known():
    model = Host(MambaScope(arch=ARCH, img_size=64))
    model.backbone.layers[1].norm = model.backbone.layers[0].norm
    mixer = model.backbone.layers[0].mixer
    nn.utils.parametrize.register_parametrization(mixer, 'D', nn.Identity())
    found = decays(model)
    assert found['backbone.layers.0.norm.weight'] == 0.0
    renamed = 'backbone.layers.0.mixer.parametrizations.D.original'
    assert found[renamed] == 0.0
