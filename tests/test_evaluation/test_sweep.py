"""A sweep says what real gated evaluations say."""

import json

import numpy as np
import pandas as pd
import pytest

from mmscope.evaluation import (
    EarlyExitMetric,
    SegmentationScore,
    SweepResult,
    score_endpoints,
    sweep,
)
from mmscope.evaluation.curves import NOBODY_EXITS
from mmscope.evaluation.tables import to_records
from mmscope.models import attach_gate, observe
from mmscope.models.layers import is_observed


def gated_evaluation(model, loader, threshold):
    """Evaluate with mmseg's IoUMetric and ours, gate at ``threshold``."""
    import torch
    from mmseg.evaluation import IoUMetric

    from mmscope.analysis import SharedCostCounter

    backbone = attach_gate(model, threshold)
    iou, exits = IoUMetric(), EarlyExitMetric()
    iou.dataset_meta = loader.dataset.metainfo
    counting = SharedCostCounter(model, backbone)
    size = 0
    with torch.no_grad(), counting as counter, observe(model) as records:
        exits.bind(backbone, counter, records)
        for batch in loader:
            samples = [s.to_dict() for s in model.test_step(batch)]
            iou.process(batch, samples)
            exits.process(batch, samples)
            size += len(samples)
    return {**iou.evaluate(size), **exits.evaluate(size)}


def test_swept_rows_equal_real_gated_evaluations(build_segmentor, make_loader):
    model, loader = build_segmentor(), make_loader()
    result = sweep(model, loader, num_quantiles=3, num_draws=2)
    assert result.rows['exit_ratio'].tolist() == [1, 0.75, 0.5, 0.25, 0]
    for row in result.rows.to_dict('records'):
        real = gated_evaluation(model, loader, row['threshold'])
        assert row['exit_ratio'] == real['early_exit/exit_ratio']
        assert row['mean_tokens'] == real['early_exit/mean_tokens']
        assert row['mean_cost'] == pytest.approx(
            real['early_exit/mean_cost'], rel=1e-12
        )
        # mmseg rounds to two digits.
        assert row['mIoU'] == pytest.approx(real['mIoU'], abs=0.006)


def test_both_stages_differ_in_the_test_model(build_segmentor, make_loader):
    # Otherwise the test above could not see a mixed-up image.
    images = score_endpoints(
        build_segmentor(), make_loader(), SegmentationScore(4)
    )
    scored = images.scored
    assert (scored.coarse != scored.fine).any(1).all()
    assert len(np.unique(images.confidence)) == 12
    assert images.table['name'][10] == 'images/010.jpg'


def test_configured_kind_of_confidence_is_among_the_compared(
    build_segmentor, make_loader
):
    images = score_endpoints(
        build_segmentor(), make_loader(4), SegmentationScore(4)
    )
    assert list(images.kinds) == ['mean_present', 'min_present', 'entropy']
    assert (images.kinds['mean_present'] == images.confidence).all()
    assert (images.kinds['min_present'] <= images.confidence).all()
    assert (images.kinds['entropy'] != images.confidence).all()


@pytest.mark.parametrize('kind', ['min_present', 'map'])
def test_a_map_is_among_the_compared(build_segmentor, make_loader, kind):
    import torch

    head = {
        'type': 'mmscope.MultiLabelExitHead',
        'num_classes': 4,
        'confidence': kind,
        'map_loss_weight': 0.4,
    }
    model = build_segmentor(exit_head=head)
    torch.nn.init.normal_(model.backbone.exit_head.fc_map.weight, std=0.5)
    quick = {'num_quantiles': 1, 'num_draws': 2}
    others = ['mean_present', 'min_present', 'entropy']
    if kind == 'map':
        with pytest.raises(RuntimeError, match='never trained'):
            sweep(model, make_loader(3))
    else:
        # What was never trained says nothing.
        found = sweep(model, make_loader(3), **quick).confidence.kinds
        assert found['kind'].tolist() == others
    model.backbone.exit_head.num_map_updates.fill_(1)
    result = sweep(model, make_loader(3), **quick)
    assert result.confidence.kinds['kind'].tolist() == [*others, 'map']
    images = score_endpoints(model, make_loader(3), SegmentationScore(4))
    assert (images.kinds[kind] == images.confidence).all()
    assert (images.kinds['map'] != images.kinds['min_present']).all()


def test_sweep_leaves_the_model_as_it_was(build_segmentor, make_loader):
    model = build_segmentor()
    attach_gate(model, 0.7)
    model.train()
    sweep(model, make_loader(3), num_quantiles=1)
    assert model.training
    assert model.backbone.exit_threshold == 0.7
    assert not is_observed(model.backbone)
    assert not any(m._forward_hooks for m in model.modules())


def test_model_without_a_gate_gives_one_row(build_segmentor, make_loader):
    model = build_segmentor('mmscope.VisionMamba')
    loader = make_loader(4)
    result = sweep(model, loader)
    (row,) = result.rows.to_dict('records')
    assert np.isnan(row['threshold'])
    assert row['exit_ratio'] == 0
    assert row['mean_tokens'] == 4 * 6 + 1
    assert row['mIoU'] > 0
    assert result.confidence is None
    assert json.loads(result.to_json())['rows'][0]['threshold'] is None
    # What MambaScope would pay if it refined everything, bar its coarse pass.
    from mmscope.analysis import stage_costs

    head = 6 * 4 * (16 * 16 * 9 + 16 * 4)
    macs = stage_costs(model.backbone, (4, 6)).fine + head
    assert row['mean_cost'] == pytest.approx(macs / 1e9, rel=1e-12)


def test_sliding_windows_are_refused(build_segmentor, make_loader):
    from mmengine.config import ConfigDict

    model = build_segmentor()
    model.test_cfg = ConfigDict(
        mode='slide', crop_size=(64, 64), stride=(32, 32)
    )
    with pytest.raises(RuntimeError, match=r'3 images took 2 forwards'):
        sweep(model, make_loader(3))


def test_untrained_exit_head_is_refused(build_segmentor, make_loader):
    model = build_segmentor()
    model.backbone.exit_head.num_updates.zero_()
    with pytest.raises(RuntimeError, match='never trained'):
        sweep(model, make_loader(3))


def test_two_stages_without_an_exit_head_are_refused(
    build_segmentor, make_loader
):
    with pytest.raises(ValueError, match='exit_head'):
        sweep(build_segmentor(exit_head=None), make_loader(3))


def test_empty_loader_is_refused(build_segmentor, make_loader):
    with pytest.raises(ValueError, match='no batch'):
        sweep(build_segmentor(), make_loader(0))


def test_missing_ground_truth_is_named(build_segmentor, make_loader):
    loader = make_loader(3)
    del loader[0]['data_samples'][0].gt_sem_seg
    with pytest.raises(ValueError, match='LoadAnnotations'):
        sweep(build_segmentor(), loader)


def test_unknown_classes_are_refused(build_segmentor, make_loader):
    with pytest.raises(ValueError, match='SegmentationScore'):
        sweep(build_segmentor(), list(make_loader(3)))


def test_all_ignored_image_has_no_gain_and_no_pixels(
    build_segmentor, make_loader
):
    loader = make_loader(4, batch_size=2)
    loader[0]['data_samples'][0].gt_sem_seg.data.fill_(255)
    result = sweep(build_segmentor(), loader, num_quantiles=1, num_draws=3)
    gains = result.images['gain_mIoU']
    assert gains.isna().tolist() == [True, False, False, False]
    assert json.loads(result.to_json())['images'][0]['gain_mIoU'] is None


def test_data_set_without_any_label_gives_null_scores(
    build_segmentor, make_loader
):
    loader = make_loader(2)
    for sample in loader[0]['data_samples']:
        sample.gt_sem_seg.data.fill_(255)
    result = sweep(build_segmentor(), loader, num_quantiles=1, num_draws=3)
    rows = json.loads(result.to_json())['rows']
    assert {row['mIoU'] for row in rows} == {None}
    assert rows[0]['mean_cost'] < rows[-1]['mean_cost']
    assert result.table()


def test_files_hold_the_rows(build_segmentor, make_loader, tmp_path):
    result = sweep(build_segmentor(), make_loader(6), num_quantiles=2)
    result.to_json(tmp_path / 'sweep.json')
    loaded = json.loads((tmp_path / 'sweep.json').read_text())
    assert loaded['rows'] == to_records(result.rows)
    read = SweepResult.read(tmp_path / 'sweep.json')
    assert read.to_json() == result.to_json()
    pd.testing.assert_frame_equal(read.images, result.images)
    lines = result.table().splitlines()
    assert len(lines) == 2 + len(result.rows)
    assert 'images/s' not in lines[0]
    assert result.rows['threshold'].iloc[-1] == NOBODY_EXITS


def test_speeds_join_their_rows(build_segmentor, make_loader):
    result = sweep(build_segmentor(), make_loader(4), num_quantiles=1)
    entry = {'threshold': 0.0, 'batch_size': 1, 'images_per_s': 3.0}
    large = {**entry, 'batch_size': 8, 'images_per_s': 20.0}
    result.add_throughput(pd.DataFrame([large, entry]))
    speeds = result.rows['images_per_s']
    assert speeds[0] == 3.0
    assert speeds[1:].isna().all()
    assert 'images/s' in result.table()
