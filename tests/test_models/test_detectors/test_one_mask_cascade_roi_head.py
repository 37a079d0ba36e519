import pytest
import torch
from builders import detection
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
from mmengine.structures import InstanceData

from mmscope.registry import MODELS


def build(head='mmscope.OneMaskCascadeRoIHead', **options):
    torch.manual_seed(0)
    config = detection.cascade()['roi_head']
    config.update(
        type=head,
        train_cfg=detection.train_cfg()['rcnn'],
        test_cfg=detection.test_cfg()['rcnn'],
        **options,
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(ConfigDict(config)).eval()


def pyramid(num=2):
    torch.manual_seed(1)
    return tuple(torch.randn(num, 8, s, s) for s in (16, 8, 4, 2))


def boxes(*numbers):
    corners = torch.tensor([[4.0, 4, 40, 40], [10, 20, 50, 60], [0, 0, 9, 9]])
    return [InstanceData(bboxes=corners[:n]) for n in numbers]


METAS = [
    {
        'img_shape': (64, 64),
        'ori_shape': (64, 64),
        'scale_factor': (1.0, 1.0),
    }
] * 2


def test_there_is_one_mask_head_where_mmdet_has_three():
    one, three = build(), build('CascadeRoIHead')
    assert len(one.mask_head) == 1
    assert len(three.mask_head) == 3
    names = {n for n, _ in one.named_parameters()}
    assert names < {n for n, _ in three.named_parameters()}


def test_equal_mask_heads_averaged_are_one_mask_head():
    one, three = build(), build('CascadeRoIHead')
    three.load_state_dict(one.state_dict(), strict=False)
    for head in three.mask_head:
        head.load_state_dict(one.mask_head[0].state_dict())
    masks = []
    for head in (one, three):
        found = boxes(2, 1)
        for result in found:
            result.labels = torch.zeros(len(result.bboxes), dtype=torch.long)
        with torch.no_grad():
            results = head.predict_mask(pyramid(), METAS, found)
        masks.append([result.masks for result in results])
    assert [len(m) for m in masks[0]] == [2, 1]
    for single, averaged in zip(*masks, strict=True):
        assert (single != averaged).float().mean() < 1e-3


def test_the_mask_head_runs_once_and_on_final_boxes_only():
    head = build()
    calls = []
    head.mask_head[0].register_forward_hook(
        lambda module, args, output: calls.append(len(output))
    )
    samples = [InstanceData(metainfo=meta) for meta in METAS]
    with torch.no_grad():
        results = head.predict(pyramid(), boxes(3, 2), samples)
    assert calls == [sum(map(len, results))]


def test_no_detection_gives_no_mask():
    found = boxes(0, 0)
    for result in found:
        result.labels = torch.zeros(0, dtype=torch.long)
    results = build().predict_mask(pyramid(), METAS, found)
    assert [len(result.masks) for result in results] == [0, 0]


@pytest.mark.parametrize('masks', [True, False])
@torch.no_grad()
def test_tensor_mode_gives_scores_deltas_and_masks(masks):
    head = build() if masks else build(mask_head=None)
    samples = [InstanceData(metainfo=meta) for meta in METAS]
    outputs = head(pyramid(), boxes(3, 2), samples)
    assert len(outputs) == (3 if masks else 2)
    for output in outputs:
        assert [len(rows) for rows in output] == [3, 2]
    if masks:
        assert outputs[2][0].shape == (3, 2, 8, 8)


def test_a_mask_head_without_extractor_shares_that_of_the_boxes():
    head = build(mask_roi_extractor=None)
    assert head.mask_roi_extractor is head.bbox_roi_extractor
    assert head.share_roi_extractor


def test_a_list_of_mask_heads_is_refused():
    with pytest.raises(ValueError, match='one mask head, got a list of 3'):
        build(mask_head=[detection.mask_head()] * 3)
