"""A sweep of a real detector says what real gated evaluations say."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders.tools import load_tool

pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')

from builders import detection
from mmengine.config import Config, ConfigDict
from mmengine.dataset import ConcatDataset
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmscope.analysis import SharedCostCounter
from mmscope.evaluation import (
    EarlyExitMetric,
    measure_throughput,
    score_endpoints,
    sweep,
)
from mmscope.evaluation.tasks import default_score
from mmscope.models import attach_gate, observe
from mmscope.registry import MODELS


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return detection.write_coco(tmp_path_factory.mktemp('coco'), num=4)


@pytest.fixture(autouse=True)
def mmdet_scope():
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    init_default_scope('mmdet')


def build(config, seed=0):
    torch.manual_seed(seed)
    if 'exit_head' in config['backbone']:
        # The default is 0 for every image of a fresh head.
        config['backbone']['exit_head']['confidence'] = 'entropy'
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
    config = detection.dataloader(root, False, batch_size, **options)
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
    counting = SharedCostCounter(model, backbone)
    with torch.no_grad(), counting as counter, observe(model) as records:
        exits.bind(backbone, counter, records)
        for batch in loader:
            samples = [s.to_dict() for s in model.test_step(batch)]
            ap.process(batch, samples)
            exits.process(batch, samples)
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


@pytest.mark.parametrize('config', [detection.cascade, detection.retinanet])
def test_swept_rows_equal_gated_runs_of_coco_metric(
    config, root, tmp_path, monkeypatch
):
    model = build(config())
    loader = load(own_truth(model, root, tmp_path / 'own'), with_mask=False)
    result = sweep(model, loader, num_quantiles=1, num_draws=2)
    assert len(result.rows) == 3
    assert result.rows['bbox_mAP_50'].nunique() == 3
    assert ('segm_mAP' in result.rows) == model.with_mask
    for row in result.rows.to_dict('records'):
        real = gated_evaluation(model, loader, row['threshold'], monkeypatch)
        for name in (key for key in real if 'mAP' in key):
            assert row[name] == pytest.approx(real[name], abs=1e-9)
        assert row['exit_ratio'] == real['early_exit/exit_ratio']
        assert row['mean_cost'] == pytest.approx(
            real['early_exit/mean_cost'], rel=1e-12
        )


def test_heads_are_counted_at_the_end_that_they_run_at(root):
    model = build(detection.cascade())
    loader = load(root)
    (sample, *_) = model.test_step(next(iter(loader)))
    # Then the stages find different numbers of boxes, and cut out masks.
    limit = float(sample.pred_instances.scores.median())
    model.roi_head.test_cfg['score_thr'] = limit
    images = score_endpoints(model, loader, default_score(model, loader))
    assert (images.table['exit_shared'] != images.table['full_shared']).any()
    table = images.table
    found = table['coarse_detections'] - table['fine_detections']
    change = table['exit_shared'] - table['full_shared']
    # The mask head runs on each box that is found, and on nothing else.
    assert change.tolist() == pytest.approx((found * mask_macs()).tolist())


def mask_macs():
    """MACs of the mask head for one box of 4 x 4 cells, class by class."""
    channels, cells = detection.CHANNELS, 4 * 4
    convs = 2 * cells * channels * channels * 9
    upsampled = cells * channels * channels * 4
    return convs + upsampled + 4 * cells * channels * len(detection.CLASSES)


@pytest.mark.parametrize(
    ('wrap', 'message'),
    [
        (lambda data: ConcatDataset([data]), 'got ConcatDataset: name the'),
        (lambda data: [data[0]], 'got list'),
    ],
)
def test_data_sets_without_coco_annotations_are_refused(root, wrap, message):
    model = build(detection.retinanet())
    loader = SimpleNamespace(dataset=wrap(load(root, with_mask=False).dataset))
    with pytest.raises(ValueError, match=message):
        default_score(model, loader)


def test_other_classes_are_refused(root):
    model = build(detection.faster_rcnn())
    loader = load(root, with_mask=False)
    model.roi_head.bbox_head.num_classes = 3
    with pytest.raises(ValueError, match='has 2 classes, the box head .* 3'):
        default_score(model, loader)
    config = detection.dataloader(root, False, with_mask=False)
    config['dataset']['metainfo'] = {'classes': ('square', 'round')}
    loader = Runner.build_dataloader(config, seed=0)
    with pytest.raises(ValueError, match='has 1 of the 2 classes'):
        default_score(model, loader)


def test_masks_are_scored_where_model_and_file_have_them(root, tmp_path):
    cascade = build(detection.cascade())
    boxes = build(detection.faster_rcnn())
    assert default_score(cascade, load(root)).iou_types == ('bbox', 'segm')
    assert default_score(boxes, load(root)).iou_types == ('bbox',)
    content = json.loads((root / 'coco.json').read_text())
    del content['annotations'][0]['segmentation']
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    (tmp_path / 'images').symlink_to(root / 'images')
    bare = load(tmp_path, with_mask=False)
    assert default_score(cascade, bare).iou_types == ('bbox',)


def test_detectors_are_timed(root):
    model = build(detection.retinanet())
    loader = load(root, with_mask=False)
    found = measure_throughput(
        model, loader, [0.0, 2.0], range(3), [2], repeats=1
    )
    assert found['exit_ratio'].tolist() == [1, 0]
    assert found['num_images'].tolist() == [3, 3]


def write_run(model, config, folder):
    """Write config and weights of a detector on its own objects."""
    folder.mkdir(parents=True)
    # The model finds other images for the choice than for the report.
    val, test = (
        load_config(folder.parent / 'val'),
        load_config(folder.parent / 'own'),
    )
    gated = 'MambaScope' in config['backbone']['type']
    hook = {'type': 'mmscope.ConfidenceGateHook'}
    Config(
        {
            'default_scope': 'mmdet',
            'model': config,
            'val_dataloader': val,
            'val_cfg': {'type': 'ValLoop'},
            'val_evaluator': coco_metric(folder.parent / 'val'),
            'test_dataloader': test,
            'test_cfg': {'type': 'TestLoop'},
            'test_evaluator': coco_metric(folder.parent / 'own'),
            'custom_hooks': [hook] if gated else [],
            'visualizer': {
                'type': 'DetLocalVisualizer',
                'name': str(folder),
            },
        }
    ).dump(folder / 'run.py')
    state = {'state_dict': model.state_dict(), 'meta': {}}
    torch.save(state, folder / 'run.pth')
    return [str(folder / 'run.py'), str(folder / 'run.pth')]


def load_config(root):
    return detection.dataloader(root, False, 1, with_mask=False)


def coco_metric(root):
    ann_file = str(root / 'coco.json')
    return {'type': 'CocoMetric', 'ann_file': ann_file, 'metric': ['bbox']}


def test_chosen_threshold_is_tested_for_real_beside_a_baseline(
    root, tmp_path, capsys
):
    pytest.importorskip('matplotlib', reason='the tool draws a picture')
    config = detection.retinanet()
    vim = detection.retinanet()
    vim['backbone']['type'] = 'mmscope.VisionMamba'
    del vim['backbone']['exit_head']
    model = build(config)
    own_truth(model, root, tmp_path / 'own')
    other = detection.write_coco(tmp_path / 'other', num=3, seed=1)
    own_truth(model, other, tmp_path / 'val')
    run = write_run(model, config, tmp_path / 'scope')
    baseline = write_run(build(vim), vim, tmp_path / 'vim')
    quick = ('--device', 'cpu', '--speed-images', '0', '--num-draws', '2')
    sweep_tool = load_tool('analysis_tools/sweep_threshold')
    saved, scope = tmp_path / 'eta.json', str(tmp_path / 'scope.json')
    single = str(tmp_path / 'vim.json')
    sweep_tool.main([*baseline, *quick, '--json', single])
    sweep_tool.main(
        [
            *(*run, *quick, '--choose-on', 'val', '--max-drop', '1'),
            *('--save-threshold', str(saved), '--num-quantiles', '1'),
            *('--json', scope, '--out-dir', str(tmp_path / 'out')),
        ]
    )
    printed = capsys.readouterr().out
    assert 'bbox_mAP_50' in printed
    assert 'chosen on 3 images of val' in printed
    picture = tmp_path / 'both.png'
    load_tool('analysis_tools/compare_runs').main(
        [single, scope, '--names', 'ViM', 'Scope', '--picture', str(picture)]
    )
    assert picture.is_file()
    report = capsys.readouterr().out
    assert 'bbox_mAP, all exit' in report
    assert 'bbox_mAP_75' in report
    chosen = json.loads(Path(scope).read_text())['meta']['chosen']['reported']
    load_tool('test').main(
        [
            *(*run, '--exit-threshold', str(saved)),
            *('--work-dir', str(tmp_path / 'test')),
        ]
    )
    (log,) = (tmp_path / 'test').glob('*/2*.json')
    real = json.loads(log.read_text())
    # CocoMetric rounds to three digits of one.
    assert real['coco/bbox_mAP'] == pytest.approx(
        chosen['bbox_mAP'] / 100, abs=0.00051
    )
    for name in ('exit_ratio', 'mean_cost'):
        assert real[f'early_exit/{name}'] == pytest.approx(chosen[name])
