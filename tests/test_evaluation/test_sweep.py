"""A sweep says what real gated evaluations say."""

import csv
import json

import numpy as np
import pytest

from mmscope.evaluation import (
    EarlyExitMetric,
    SegmentationScore,
    score_both_ends,
    sweep,
)
from mmscope.evaluation.curves import NOBODY_EXITS
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
    assert [row['exit_ratio'] for row in result.rows] == [
        1.0,
        0.75,
        0.5,
        0.25,
        0.0,
    ]
    for row in result.rows:
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
    ends = score_both_ends(
        build_segmentor(), make_loader(), SegmentationScore(4)
    )
    images = ends.scored
    assert (images.coarse != images.fine).any(1).all()
    assert len(np.unique(ends.confidence)) == 12
    assert ends.names[10] == 'images/010.jpg'


def test_configured_kind_of_confidence_is_among_the_compared(
    build_segmentor, make_loader
):
    ends = score_both_ends(
        build_segmentor(), make_loader(4), SegmentationScore(4)
    )
    assert list(ends.kinds) == ['mean_present', 'min_present', 'entropy']
    assert (ends.kinds['mean_present'] == ends.confidence).all()
    assert (ends.kinds['min_present'] <= ends.confidence).all()
    assert (ends.kinds['entropy'] != ends.confidence).all()


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
    with pytest.raises(RuntimeError, match='never trained'):
        sweep(model, make_loader(3))
    model.backbone.exit_head.num_map_updates.fill_(1)
    result = sweep(model, make_loader(3), num_quantiles=1, num_draws=2)
    kinds = [found['kind'] for found in result.confidence['kinds']]
    assert kinds == ['mean_present', 'min_present', 'entropy', 'map']
    ends = score_both_ends(model, make_loader(3), SegmentationScore(4))
    assert (ends.kinds[kind] == ends.confidence).all()
    assert (ends.kinds['map'] != ends.kinds['min_present']).all()


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
    (row,) = result.rows
    assert (row['threshold'], row['exit_ratio']) == (None, 0.0)
    assert row['mean_tokens'] == 4 * 6 + 1
    assert row['mIoU'] > 0
    assert result.confidence == {}
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
    assert result.images[0]['gain_mIoU'] is None
    assert result.images[1]['gain_mIoU'] is not None
    json.loads(result.to_json())


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
    result.to_csv(tmp_path / 'sweep.csv')
    loaded = json.loads((tmp_path / 'sweep.json').read_text())
    assert loaded['rows'] == result.rows
    with open(tmp_path / 'sweep.csv') as file:
        read = [float(row['mIoU']) for row in csv.DictReader(file)]
    assert read == [row['mIoU'] for row in result.rows]
    lines = result.table().splitlines()
    assert len(lines) == 2 + len(result.rows)
    assert 'images/s' not in lines[0]
    assert result.rows[-1]['threshold'] == NOBODY_EXITS


def test_speeds_join_their_rows(build_segmentor, make_loader):
    result = sweep(build_segmentor(), make_loader(4), num_quantiles=1)
    entry = {'threshold': 0.0, 'batch_size': 1, 'images_per_s': 3.0}
    result.add_throughput(
        [entry, {**entry, 'batch_size': 8, 'images_per_s': 20.0}]
    )
    assert result.rows[0]['images_per_s'] == 3.0
    assert 'images_per_s' not in result.rows[1]
    assert 'images/s' in result.table()
