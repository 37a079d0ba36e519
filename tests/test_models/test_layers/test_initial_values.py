"""Special initial values stand after any init_cfg; pretrained ones win."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmscope.models import MambaReg, MambaScope, VideoMamba, VisionMamba

ARCH = {'embed_dims': 32, 'num_layers': 4}
# Many stock configs carry such a line.
STOCK = [{'type': 'TruncNormal', 'layer': 'Linear', 'std': 0.02, 'bias': 0.0}]


def build(cls=VisionMamba, **options):
    torch.manual_seed(0)
    return cls(arch=ARCH, img_size=64, **options)


@pytest.mark.parametrize(
    'cls', [VisionMamba, VideoMamba, MambaReg, MambaScope]
)
@pytest.mark.parametrize('place', ['own', 'host'])
def test_steps_rates_and_depth_scaling_survive_an_init_cfg(cls, place):
    from mmengine.model import BaseModule

    class Host(BaseModule):
        def __init__(self, backbone, init_cfg):
            super().__init__(init_cfg)
            self.backbone = backbone

    if place == 'own':
        model = host = build(cls, init_cfg=STOCK)
    else:
        model = build(cls)
        host = Host(model, STOCK)
    host.init_weights()
    for block in model.layers:
        mixer = block.mixer
        for dt_proj in (mixer.dt_proj, mixer.dt_proj_b):
            step = F.softplus(dt_proj.bias)
            assert step.min() >= 1e-3 * 0.999
            assert step.max() <= 0.1 * 1.001
            assert dt_proj.weight.abs().max() <= mixer.dt_rank**-0.5
            assert dt_proj.weight.std() > 0.2
        states = torch.arange(1.0, 17.0).expand(64, 16)
        assert torch.allclose(mixer.A_log.exp(), states)
        assert torch.equal(mixer.D_b, torch.ones(64))
        bound = 1 / math.sqrt(64) / math.sqrt(4)
        assert mixer.out_proj.weight.abs().max() <= bound
        assert mixer.out_proj.weight.std() > 0.5 * bound
    # What is not special follows the config.
    std = model.layers[0].mixer.in_proj.weight.std().item()
    assert std == pytest.approx(0.02, rel=0.1)


def test_pretrained_weights_win_over_special_values(tmp_path):
    trained = build()
    with torch.no_grad():
        for param in trained.parameters():
            param.fill_(0.5)
    file = tmp_path / 'trained.pth'
    torch.save({'state_dict': trained.state_dict()}, file)
    pretrained = {'type': 'Pretrained', 'checkpoint': str(file)}
    for init_cfg in (pretrained, [*STOCK, pretrained]):
        model = build(init_cfg=init_cfg)
        model.init_weights()
        assert all((p == 0.5).all() for p in model.parameters())


def test_a_second_call_leaves_loaded_weights_alone():
    model = build()
    model.init_weights()
    with torch.no_grad():
        model.layers[0].mixer.D.fill_(3.0)
    model.init_weights()
    assert (model.layers[0].mixer.D == 3.0).all()


@pytest.mark.parametrize('init_cfg', [None, {'type': 'Xavier', 'layer': 'X'}])
def test_without_an_init_cfg_that_fits_nothing_is_drawn_again(init_cfg):
    model = build(init_cfg=init_cfg)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.random.get_rng_state()
    model.init_weights()
    assert torch.equal(torch.random.get_rng_state(), state)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_construction_alone_gives_them_without_any_init_weights():
    mixer = build().layers[2].mixer
    assert F.softplus(mixer.dt_proj.bias).max() <= 0.1 * 1.001
    assert isinstance(mixer.out_proj, nn.Linear)
