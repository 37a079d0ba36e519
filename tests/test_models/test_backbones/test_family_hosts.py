"""Each family and its scope in all three hosts, trained and gated."""

from __future__ import annotations

import pytest
import torch
from builders.host_runs import HOSTS

from mmscope.models import is_two_stage
from mmscope.models.backbones.weights_info import WeightsInfo
from mmscope.registry import MODELS

# A family, its scope, and the name that its weights give.
FAMILIES = {
    'VideoMamba': ('VideoMambaScope', 'VideoMamba'),
    'MambaReg': ('MambaRegScope', 'Mamba-Reg'),
    'TokenViT': ('ViTScope', 'ViT'),
}
# Two registers side by side are one vector for the heads.
REGISTERS = {'num_registers': 2, 'cls_reduce': 2}
ENTRY = 'backbone._extra_state'


def backbone(kind):
    """Options of a backbone; its vector has the width that hosts expect."""
    options = REGISTERS if 'MambaReg' in kind else {}
    return {'type': f'mmscope.{kind}', **options}


def gated(threshold):
    hook = {'type': 'mmscope.ConfidenceGateHook', 'exit_threshold': threshold}
    return {'custom_hooks': [hook]}


def weights(runner):
    return {k: v.clone() for k, v in runner.model.named_parameters()}


def last(folder):
    (path,) = (
        p for p in folder.glob('*.pth') if p.stem in ('iter_2', 'epoch_1')
    )
    return path


@pytest.mark.parametrize('family', FAMILIES)
@HOSTS
def test_the_scope_trains_and_exits(host, family, tmp_path):
    make, (scope, says) = host(tmp_path), FAMILIES[family]
    runner = make('train', backbone(scope))
    assert type(runner.model.backbone) is MODELS.get(scope)
    before = weights(runner)
    runner.train()
    assert runner.iter == 2
    moved = [
        name
        for name, value in weights(runner).items()
        if name.startswith('backbone.')
        and not torch.equal(value, before[name])
    ]
    parts = ('pos_embed', 'coarse_pos_embed', 'reuse.0.weight', 'cls_token')
    assert {f'backbone.{part}' for part in parts} <= set(moved)
    path = last(tmp_path / 'train')
    saved = torch.load(path, weights_only=False)['state_dict']
    assert WeightsInfo.unpack(saved[ENTRY]).family == says
    ratios = []
    for name, threshold in (('all', 0.0), ('none', 1.5)):
        options = {'load_from': str(path), **gated(threshold)}
        tester = make(name, backbone(scope), **options)
        ratios.append(tester.test()['early_exit/exit_ratio'])
        assert tester.model.backbone.exit_threshold == threshold
    assert ratios == [1.0, 0.0]


@pytest.mark.parametrize('family', FAMILIES)
@HOSTS
def test_the_plain_family_trains_and_tests(host, family, tmp_path):
    runner = host(tmp_path)('train', backbone(family), custom_hooks=[])
    assert type(runner.model.backbone) is MODELS.get(family)
    assert not is_two_stage(runner.model)
    before = weights(runner)['backbone.cls_token']
    runner.train()
    assert runner.iter == 2
    # A map has no cls, but the blocks carry it into the patches.
    assert not torch.equal(weights(runner)['backbone.cls_token'], before)
    assert runner.test()
