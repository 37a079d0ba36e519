"""VideoMamba and its scope: what is its own."""

from __future__ import annotations

import pytest
import torch

from mmscope.models import (
    MambaScope,
    VideoMamba,
    VideoMambaScope,
    VisionMamba,
)
from mmscope.models.backbones.weights_info import KEY
from mmscope.testing import assert_close

ARCH = {'embed_dims': 16, 'num_layers': 4}


def make(family=VideoMamba, **options):
    torch.manual_seed(0)
    return family(**{'arch': ARCH, 'img_size': 64, **options})


@pytest.mark.parametrize(
    ('arch', 'count'),
    [
        ('tiny', 7_148_008),
        ('small', 25_796_584),
        ('middle', 74_217_448),
        ('base', 97_598_440),
    ],
)
def test_parameters_are_exact_with_the_1000_class_head(arch, count):
    with torch.device('meta'):
        model = VideoMamba(arch=arch)
    own = sum(p.numel() for p in model.parameters())
    assert own + 1000 * (model.summary_dims + 1) == count


def test_vim_does_not_know_the_middle_arch():
    with pytest.raises(ValueError, match='arch must be one of'):
        VisionMamba(arch='middle')


def test_they_are_what_they_extend():
    assert issubclass(VideoMamba, VisionMamba)
    assert issubclass(VideoMambaScope, VideoMamba)
    assert not issubclass(VideoMambaScope, MambaScope)


def test_names_and_order_of_parameters_are_vim_s():
    for ours, vim in (
        (VideoMamba, VisionMamba),
        (VideoMambaScope, MambaScope),
    ):
        names = [name for name, _ in make(ours).named_parameters()]
        assert names == [name for name, _ in make(vim).named_parameters()]


@torch.no_grad()
def test_it_is_vim_but_for_a_place_and_a_factor():
    ours, vim = make().eval(), make(VisionMamba).eval()
    state = ours.state_dict()
    del state[KEY]
    # cls and its position stand first here, in the middle there.
    patches, summary = ours.summary_tokens.split(ours.pos_embed)
    state['pos_embed'] = vim.summary_tokens.insert(patches, summary)
    for name in state:
        if name.endswith('out_proj.weight'):
            state[name] = 2 * state[name]
    vim.load_state_dict(state)
    image = torch.randn(2, 3, 64, 64)
    ours.summary_tokens = vim.summary_tokens
    moved = ours.position_tables()['pos_embed']
    assert moved.summary.position == 'first'
    assert_close('features', ours(image)[0], vim(image)[0], torch.float32)


@torch.no_grad()
def test_cls_stands_first_in_both_stages():
    scope = make(VideoMambaScope, refine_ratio=0.5).eval()
    stage = scope.forward_coarse(torch.randn(1, 3, 64, 64))
    layout = scope.layout(stage)
    assert layout.places == scope.summary_tokens.places(4) == (0,)
    behind = make(VideoMambaScope, cls_position='behind', refine_ratio=0.5)
    assert behind.layout(stage).places == (8,)
