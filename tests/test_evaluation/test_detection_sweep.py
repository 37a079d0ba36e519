"""A sweep of a real detector says what real gated evaluations say."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet', reason='needs the mmdet host')

import det_builders
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmscope.analysis import SharedCostCounter
from mmscope.evaluation import (
    EarlyExitMetric,
    sweep,
)
from mmscope.models.scoping import attach_gate
from mmscope.registry import MODELS


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return det_builders.write_coco(tmp_path_factory.mktemp('coco'), num=6)


@pytest.fixture(autouse=True)
def mmdet_scope():
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    init_default_scope('mmdet')


def build(config, seed=0):
    torch.manual_seed(seed)
    model = MODELS.build(ConfigDict(config))
    head = getattr(model.backbone, 'exit_head', None)
    if head is not None:
        # Fresh weights give every image the same confidence.
        torch.nn.init.normal_(head.fc.weight, std=0.5)
        head.num_updates.fill_(1)
    # Larger than fresh: so that the boxes differ between the stages.
    torch.nn.init.normal_(model.backbone.patch_embed.proj.weight, std=0.1)
    return model.eval()


def own_truth(model, root, folder):
    """Make some of the model's detections of either stage the objects.

    A fresh detector finds nothing else, and no AP of it would tell a
    mistake.
    """
    from pycocotools import mask as coder

    content = json.loads((root / 'coco.json').read_text())
    content['annotations'] = []
    for threshold, first in ((0.0, 0), (2.0, 1)):
        attach_gate(model, threshold)
        for batch in load(root, with_mask=False):
            (sample,) = model.test_step(batch)
            found = sample.pred_instances[first:5:2]
            for index, box in enumerate(found.bboxes.tolist()):
                x1, y1, x2, y2 = box
                entry = {
                    'id': len(content['annotations']) + 1,
                    'image_id': sample.img_id,
                    'category_id': int(found.labels[index]) + 1,
                    'bbox': [x1, y1 + 1, x2 - x1, y2 - y1],
                    'area': (x2 - x1) * (y2 - y1),
                    'iscrowd': int(index == 2),
                }
                if 'masks' in found:
                    mask = found.masks[index].byte().cpu().numpy()
                    code = coder.encode(np.asfortranarray(mask))
                    code['counts'] = code['counts'].decode()
                    entry['segmentation'] = code
                content['annotations'].append(entry)
    folder.mkdir()
    (folder / 'images').symlink_to(root / 'images')
    (folder / 'coco.json').write_text(json.dumps(content))
    return folder


def load(root, batch_size=1, **options):
    config = det_builders.dataloader(root, False, batch_size, **options)
    return Runner.build_dataloader(config, seed=0)


def gated_evaluation(model, loader, threshold, monkeypatch):
    """Evaluate with mmdet's CocoMetric, unrounded, and ours."""
    from mmdet.evaluation.metrics import coco_metric

    kept = []

    class Recorded(coco_metric.COCOeval):
        def summarize(self):
            super().summarize()
            kept.append(100 * np.array(self.stats[:3]))

    monkeypatch.setattr(coco_metric, 'COCOeval', Recorded)
    backbone = attach_gate(model, threshold)
    types = ['bbox', 'segm'] if model.with_mask else ['bbox']
    dataset = loader.dataset
    ap = coco_metric.CocoMetric(dataset.ann_file, types)
    ap.dataset_meta = dataset.metainfo
    exits = EarlyExitMetric()
    counter = SharedCostCounter(model, backbone)
    exits.bind(backbone, counter)
    for batch in loader:
        with torch.no_grad():
            samples = [s.to_dict() for s in model.test_step(batch)]
        ap.process(batch, samples)
        exits.process(batch, samples)
    counter.remove()
    ap.evaluate(len(dataset))
    names = ('mAP', 'mAP_50', 'mAP_75')
    return {
        **exits.evaluate(len(dataset)),
        **{
            f'{iou_type}_{name}': value
            for iou_type, stats in zip(types, kept, strict=True)
            for name, value in zip(names, stats, strict=True)
        },
    }


@pytest.mark.parametrize(
    'config', [det_builders.cascade, det_builders.retinanet]
)
def test_swept_rows_equal_gated_runs_of_coco_metric(
    config, root, tmp_path, monkeypatch
):
    model = build(config())
    loader = load(own_truth(model, root, tmp_path / 'own'), with_mask=False)
    result = sweep(model, loader, num_quantiles=1, num_draws=2)
    assert len(result.rows) == 3
    for row in result.rows:
        real = gated_evaluation(model, loader, row['threshold'], monkeypatch)
        print({k: v for k, v in row.items() if 'mAP' in k})
        for name in (key for key in real if 'mAP' in key):
            assert row[name] == pytest.approx(real[name], abs=1e-9)
        assert row['exit_ratio'] == real['early_exit/exit_ratio']
        assert row['mean_cost'] == pytest.approx(
            real['early_exit/mean_cost'], rel=1e-12
        )
