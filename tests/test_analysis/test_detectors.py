"""A detector's cost on stated regions is what a test step spends on them."""

import re
from pathlib import Path

import pytest
import torch
from builders import detection
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
from mmdet.structures import DetDataSample

from mmscope.analysis import SharedCostCounter, closed_form, count_costs
from mmscope.analysis.detectors import (
    DetectorForward,
    Regions,
    between_layers,
    count_behind,
    find_regions,
    unknown_heads,
)
from mmscope.registry import MODELS

COCO = Path(__file__).parents[2] / 'configs/coco'
SIDE = detection.SIZE


def build(config, device='cpu'):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device(device):
        return MODELS.build(ConfigDict(config)).eval()


def boxes_only():
    config = detection.cascade('CascadeRCNN')
    roi_head = config['roi_head']
    del roi_head['mask_roi_extractor'], roi_head['mask_head']
    return {**config, 'roi_head': {**roi_head, 'type': 'CascadeRoIHead'}}


def three_mask_heads():
    config = detection.cascade('CascadeRCNN')
    roi_head = {**config['roi_head'], 'type': 'CascadeRoIHead'}
    # It shares the three extractors of the boxes.
    del roi_head['mask_roi_extractor']
    return {**config, 'roi_head': roi_head}


def one_mask_head_of_three_extractors():
    config = detection.cascade()
    del config['roi_head']['mask_roi_extractor']
    return config


DETECTORS = {
    'cascade': detection.cascade,
    'boxes_only': boxes_only,
    'three_mask_heads': three_mask_heads,
    'shared_extractors': one_mask_head_of_three_extractors,
    'faster_rcnn': detection.faster_rcnn,
}


def detect(model, num=1):
    """Detect in random images; give MACs outside the backbone and regions."""
    seen = {'bbox_head': [], 'mask_head': []}

    def note(name):
        return lambda _, inputs: seen[name].append(len(inputs[0]))

    # One head, or one a stage in a list.
    handles = [
        module.register_forward_pre_hook(note(name))
        for path, module in model.named_modules()
        for name in seen
        if re.fullmatch(rf'roi_head\.{name}(\.\d+)?', path)
        and not isinstance(module, torch.nn.ModuleList)
    ]
    counter = SharedCostCounter(model, model.backbone)
    meta = {
        'img_shape': (SIDE, SIDE),
        'ori_shape': (SIDE, SIDE),
        'scale_factor': (1.0, 1.0),
    }
    torch.manual_seed(1)
    model.test_step(
        {
            'inputs': [torch.rand(3, SIDE, SIDE) * 255 for _ in range(num)],
            'data_samples': [
                DetDataSample(metainfo=dict(meta)) for _ in range(num)
            ],
        }
    )
    counter.remove()
    for handle in handles:
        handle.remove()
    return counter.per_image(num), seen


def counted(model, regions):
    run = DetectorForward(model, regions)
    return count_costs(model, (SIDE, SIDE), run=run)


@pytest.mark.parametrize('kind', DETECTORS)
def test_a_test_step_spends_what_is_counted_for_its_regions(kind):
    model = build(DETECTORS[kind]())
    spent, seen = detect(model)
    (proposals,) = set(seen['bbox_head'])
    (masks,) = set(seen['mask_head']) or {0}
    found = counted(model, Regions(proposals, masks))
    assert found.outside == spent > 0
    # Every score is kept, so that the test is as large as it can be.
    assert find_regions(model) == Regions(proposals, masks)
    heads = {'bbox_head'} | ({'mask_head'} if masks else set())
    parts = found.shared_parts()
    assert set(parts) == {'neck', 'rpn_head'} | heads
    assert sum(parts.values()) == found.outside == found.costs().shared


def test_images_of_a_batch_share_what_their_regions_cost():
    model = build(detection.cascade())
    spent, seen = detect(model, num=2)
    assert seen == {'bbox_head': [40] * 3, 'mask_head': [20]}
    assert spent == counted(model, Regions(20, 10)).outside


def test_fewer_regions_than_the_most_are_counted_as_they_come():
    config = detection.cascade()
    config['test_cfg']['rpn']['nms']['iou_threshold'] = 0.05
    config['test_cfg']['rcnn']['score_thr'] = 0.4
    model = build(config)
    spent, seen = detect(model)
    proposals, masks = seen['bbox_head'][0], sum(seen['mask_head'])
    most = find_regions(model)
    assert (proposals, masks) < (most.proposals, most.masks)
    assert spent == counted(model, Regions(proposals, masks)).outside
    assert spent < counted(model, most).outside


def test_a_single_stage_detector_needs_no_regions():
    model = build(detection.retinanet())
    spent, _ = detect(model)
    found = count_costs(model, (SIDE, SIDE))
    assert found.outside == spent
    assert set(found.shared_parts()) == {'neck', 'bbox_head'}
    assert find_regions(model) is None
    assert between_layers(model, None) == [
        'box decoding',
        'non-maximum suppression',
    ]


def test_both_stages_of_a_detector_run_the_closed_form():
    model = build(detection.cascade())
    found = counted(model, Regions(5, 2))
    for convention in ('paper', 'exact'):
        closed = closed_form(model, (SIDE, SIDE), found.outside, convention)
        assert found.costs(convention) == closed


def test_regional_heads_by_hand():
    channels, classes = detection.CHANNELS, len(detection.CLASSES)
    model = build(detection.cascade())
    parts = counted(model, Regions(5, 3)).shared_parts()
    # 3 x 3 cells, 16 hidden units, one background class, boxes of all classes.
    box = 4 * 9 * channels**2 * 9 + 9 * channels * 16 + 16 * (classes + 1 + 4)
    assert parts['bbox_head'] == 5 * 3 * box
    # 4 x 4 cells, doubled by a deconvolution of 2 x 2.
    mask = 2 * 9 * channels**2 * 16 + 4 * channels**2 * 16
    assert parts['mask_head'] == 3 * (mask + 64 * channels * classes)


@pytest.mark.parametrize(
    ('stem', 'params', 'shared'),
    [
        ('vim_ti_cascade_mask_rcnn', 60080654, 595.6),
        ('mambascope_ti_cascade_mask_rcnn', 60588766, 595.6),
        ('vim_ti_cascade_mask_rcnn_lite', 37320590, 336.1),
        ('mambascope_ti_cascade_mask_rcnn_lite', 37828702, 336.1),
    ],
)
def test_coco_recipes_cost_what_they_do_by_hand(stem, params, shared):
    config = Config.fromfile(COCO / f'{stem}.py').model
    model = build(config, 'meta')
    assert sum(p.numel() for p in model.parameters()) == params
    regions = find_regions(model)
    assert regions == Regions(proposals=1000, masks=100)
    macs = count_behind(model, (1024, 1024), regions)
    assert round(macs / 1e9, 1) == shared


def test_shapes_alone_give_the_count_of_a_real_forward():
    # No multiple of the patch, nor a square.
    shape, regions = (50, 90), Regions(7, 4)
    real = build(detection.cascade())
    run = DetectorForward(real, regions)
    outside = count_costs(real, shape, run=run).outside
    model = build(detection.cascade(), 'meta')
    assert count_behind(model, shape, regions) == outside


def test_no_region_costs_nothing():
    parts = counted(build(detection.cascade()), Regions(0, 0))
    rows = {row.part: row.macs for row in parts.rows()}
    assert (rows['bbox_head'], rows['mask_head']) == (0, 0)


def test_counting_leaves_the_detector_as_it_was():
    model = build(detection.cascade()).train()
    before = {name: (id(p), p.data_ptr()) for name, p in _entries(model)}
    counted(model, Regions(5, 2))
    after = {name: (id(p), p.data_ptr()) for name, p in _entries(model)}
    assert after == before
    assert model.training
    assert not any(m._forward_pre_hooks for m in model.modules())


def _entries(model):
    return (*model.named_parameters(), *model.named_buffers())


def test_given_numbers_replace_those_of_the_config():
    model = build(detection.cascade())
    assert find_regions(model) == Regions(20, 10)
    assert find_regions(model, masks=0) == Regions(20, 0)
    assert find_regions(model, 300, 7) == Regions(300, 7)


def test_a_config_that_bounds_no_number_needs_one():
    config = detection.cascade()
    config['test_cfg']['rcnn']['max_per_img'] = -1
    model = build(config)
    with pytest.raises(ValueError, match='rcnn.max_per_img does not say'):
        find_regions(model)
    assert find_regions(model, masks=5) == Regions(20, 5)


@pytest.mark.parametrize(
    ('config', 'options'),
    [
        (detection.retinanet, {'proposals': 5}),
        (detection.faster_rcnn, {'masks': 5}),
        (detection.retinanet, {'masks': 5}),
    ],
)
def test_numbers_given_in_vain_are_refused(config, options):
    (name,) = options
    with pytest.raises(ValueError, match=f'on 5 {name}; leave {name} out'):
        find_regions(build(config()), **options)


def faster_rcnn(**methods):
    """A detector whose RoI head is a subclass with methods of its own."""
    model = build(detection.faster_rcnn())
    kind = type(model.roi_head)
    model.roi_head.__class__ = type('Mine', (kind,), methods)
    return model


def test_a_roi_head_of_other_ways_is_not_guessed():
    def predict_bbox(self, *args, **kwargs):
        raise NotImplementedError

    model = faster_rcnn(predict_bbox=predict_bbox)
    assert unknown_heads(model) == ['roi_head']
    assert find_regions(model) is None
    parts = counted(model, None).shared_parts()
    assert set(parts) == {'neck', 'rpn_head'}
    with pytest.raises(ValueError, match='no head that could be counted'):
        find_regions(model, proposals=5)


def test_a_roi_head_that_only_trains_in_its_own_way_is_known():
    model = faster_rcnn(loss=lambda self, *args: {})
    assert unknown_heads(model) == []
    assert find_regions(model, proposals=5).proposals == 5


def test_what_runs_between_the_layers_is_named():
    boxes = ['RoIAlign', 'box decoding', 'non-maximum suppression']
    named = {
        kind: between_layers(model, find_regions(model))
        for kind, model in (
            ('boxes', build(detection.faster_rcnn())),
            ('masks', build(detection.cascade())),
        )
    }
    assert named == {'boxes': boxes, 'masks': [*boxes, 'pasting of masks']}
