"""A classifier pays for its head once a stage, whoever asks it."""

import pytest
import torch
from torch import nn

from mmscope.analysis import SharedCostCounter, stage_costs
from mmscope.evaluation.image_costs import head_calls, image_costs
from mmscope.models import MambaScope, at_threshold, attach_gate, observe

DIMS, CLASSES, GRID = 8, 4, (2, 2)
EXIT_HEAD = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': CLASSES}


class Head(nn.Linear):
    meaning = 'softmax'

    def forward(self, feats):
        return super().forward(feats[-1])


class Classifier(nn.Module):
    def __init__(self, exit_head=None):
        super().__init__()
        self.backbone = MambaScope(
            arch={'embed_dims': DIMS, 'num_layers': 2},
            img_size=64,
            exit_head=exit_head,
        )
        self.head = Head(DIMS, CLASSES)

    def forward(self, imgs):
        return self.head(self.backbone(imgs))


def run(model, threshold, num_forwards=1):
    """Predict an image; give the records and the MACs beside the backbone."""
    counting = SharedCostCounter(model, model.backbone)
    gated = at_threshold(model, threshold)
    with gated, observe(model) as records, counting as counter:
        for _ in range(num_forwards):
            model(torch.zeros(1, 3, 64, 64))
    return records, counter.per_image(1)


@pytest.mark.parametrize(
    ('exit_head', 'threshold', 'calls'),
    [
        (None, 0.0, 2),
        (None, 2.0, 2),
        (None, None, 1),
        (EXIT_HEAD, 0.0, 1),
        (EXIT_HEAD, None, 1),
    ],
    ids=str,
)
@torch.no_grad()
def test_a_head_is_paid_for_once_a_stage(exit_head, threshold, calls):
    model = Classifier(exit_head).eval()
    backbone = attach_gate(model)
    records, outside = run(model, threshold, num_forwards=2)
    assert head_calls(backbone, records) == 2 * calls
    assert outside == 2 * calls * DIMS * CLASSES
    costs = stage_costs(backbone, GRID)
    for (found,) in image_costs(backbone, records, outside):
        assert found.coarse == costs.coarse + DIMS * CLASSES
        assert found.fine == costs.fine + DIMS * CLASSES
        assert found.shared == 0


@torch.no_grad()
def test_each_image_pays_for_its_own_regions():
    model = Classifier(None).eval()
    backbone = model.backbone = MambaScope(
        arch={'embed_dims': DIMS, 'num_layers': 2},
        img_size=64,
        score_metric='detail',
        refine_coverage=0.9,
    ).eval()
    imgs = torch.zeros(2, 3, 64, 64)
    imgs[1] = torch.randn(3, 64, 64)
    with observe(backbone) as records:
        backbone(imgs)
    assert records[0].regions_to_refine.tolist() == [1, 4]
    ((flat, busy),) = image_costs(backbone, records, 0.0)
    assert flat == stage_costs(backbone, (2, 2), refine_ratio=0.25)
    assert busy == stage_costs(backbone, (2, 2), refine_ratio=1.0)
    with pytest.raises(ValueError, match='give a refine_ratio to ask'):
        stage_costs(backbone, (2, 2))
