"""Models of configs are timed, also where no one number says their cost."""

from __future__ import annotations

import pytest
import torch
from builders import classification

pytest.importorskip('mmpretrain', reason='needs mmpretrain')
from mmpretrain.structures import DataSample

from mmscope.benchmark.configs import ConfigModel, config_subjects
from mmscope.models import attach_gate
from mmscope.registry import MODELS


def source(**options):
    config = classification.classifier(**options)
    model = MODELS.build({**config, '_scope_': 'mmpretrain'}).eval()
    attach_gate(model)
    item = {
        'inputs': torch.zeros(3, 64, 64, dtype=torch.uint8),
        'data_samples': DataSample(),
    }
    return ConfigModel('scope', model, [item], 0.0, (64, 64))


@pytest.mark.parametrize(
    ('options', 'known'),
    [
        ({'refine_ratio': 0.5}, True),
        ({'score_metric': 'detail', 'refine_coverage': 0.9}, False),
    ],
)
def test_with_coverage_a_scope_is_timed_and_its_macs_are_unknown(
    options, known
):
    (subject,) = config_subjects([source(**options)], [0.0], []).subjects
    assert (subject.macs is not None) == known
    with torch.no_grad():
        subject.make(1)()
