"""A released ViM checkpoint, through the converter, into mmpretrain."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

from mmscope.models import at_threshold

from .conftest import load_tool

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

SHARED = Path(
    os.environ.get('MMSCOPE_SHARED', Path(__file__).parents[3] / 'shared')
)
RELEASED = SHARED / 'fixtures' / 'vim_oracle_dev.npz'
pytestmark = pytest.mark.skipif(
    not RELEASED.exists(), reason=f'{RELEASED.name} is not here (not shipped)'
)


@pytest.fixture(scope='module')
def oracle():
    return np.load(RELEASED)


@pytest.fixture(scope='module')
def convert(oracle, tmp_path_factory):
    """Convert the released weights to one of the two targets."""
    folder = tmp_path_factory.mktemp('released')
    state = {
        name[3:]: torch.from_numpy(oracle[name])
        for name in oracle.files
        if name.startswith('sd/')
    }
    torch.save({'model': state}, folder / 'released.pth')

    def run(target):
        out = folder / f'{target}.pth'
        load_tool('model_converters/vim_to_mmscope.py').main(
            [str(folder / 'released.pth'), str(out), '--target', target]
        )
        return str(out)

    return run


def build(oracle, kind, **backbone):
    from mmpretrain.registry import MODELS

    classes, dims = oracle['sd/head.weight'].shape
    depth = sum(name.endswith('in_proj.weight') for name in oracle.files)
    two_stage = kind == 'MambaScope'
    init_default_scope('mmpretrain')
    return MODELS.build(
        ConfigDict(
            type='mmscope.CoarseToFineClassifier'
            if two_stage
            else 'ImageClassifier',
            backbone=dict(
                type=f'mmscope.{kind}',
                arch=dict(embed_dims=dims, num_layers=depth),
                img_size=48,
                **backbone,
            ),
            head=dict(
                type='mmscope.CoarseToFineClsHead'
                if two_stage
                else 'LinearClsHead',
                num_classes=classes,
                in_channels=dims,
            ),
        )
    ).eval()


def test_logits_are_those_of_the_released_vim(oracle, convert):
    model = build(oracle, 'VisionMamba')
    load_checkpoint(model, convert('vim'), strict=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(oracle['x'])).numpy()
    assert np.abs(logits - oracle['logits']).max() < 1e-5


def test_fully_refined_mambascope_without_reuse_is_that_vim(oracle, convert):
    vim = build(oracle, 'VisionMamba')
    load_checkpoint(vim, convert('vim'), strict=True)
    model = build(oracle, 'MambaScope', refine_ratio=1.0, feature_reuse='none')
    load_checkpoint(model, convert('mambascope'), strict=True)
    # 64 px, the next size that two stages share: 48 px is 3 x 3 patches.
    imgs = torch.randn(2, 3, 64, 64, generator=torch.manual_seed(0))
    with torch.no_grad(), at_threshold(model, 2.0):
        assert (model(imgs) - vim(imgs)).abs().max() < 1e-5
    with torch.no_grad(), at_threshold(model, 0.0):
        assert (model(imgs) - vim(imgs)).abs().max() > 1e-3
