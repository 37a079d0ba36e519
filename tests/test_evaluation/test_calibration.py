"""One temperature, fitted on labels, that every confidence feels."""

import math

import pytest
import torch

from mmscope.evaluation import calibrate, fit_temperature, sweep
from mmscope.evaluation.calibration import (
    _input_scale,
    calibration_error,
    mean_nll,
)
from mmscope.models import attach_gate

MEANINGS = ('softmax', 'multi_label')


@pytest.mark.parametrize('meaning', MEANINGS)
@pytest.mark.parametrize('wanted', [0.2, 1.0, 3.5])
def test_the_temperature_of_the_truth_is_found(meaning, wanted):
    torch.manual_seed(0)
    logits = 3 * torch.randn(40, 5, dtype=torch.float64)
    scaled = logits / wanted
    targets = scaled.softmax(-1) if meaning == 'softmax' else scaled.sigmoid()
    found = fit_temperature(logits, targets, meaning)
    assert found == pytest.approx(wanted, rel=1e-9)
    assert found == fit_temperature(logits, targets, meaning)


@pytest.mark.parametrize('meaning', MEANINGS)
def test_no_other_temperature_is_likelier(meaning):
    torch.manual_seed(1)
    logits = torch.randn(60, 4, dtype=torch.float64) * 2
    targets = torch.eye(4, dtype=torch.float64)[
        (logits + 2 * torch.randn(60, 4)).argmax(-1)
    ]
    best = fit_temperature(logits, targets, meaning)
    least = mean_nll(logits / best, targets, meaning)
    for other in (0.9, 0.99, 1.01, 1.1):
        assert mean_nll(logits / (other * best), targets, meaning) > least


def test_predictions_that_were_four_times_too_sure_are_calibrated():
    torch.manual_seed(2)
    logits = torch.randn(2000, 5, dtype=torch.float64)
    labels = logits.softmax(-1).multinomial(1)[:, 0]
    targets, sure = torch.eye(5)[labels], 4 * logits
    found = fit_temperature(sure, targets, 'softmax')
    assert found == pytest.approx(4, rel=0.1)
    before = calibration_error(sure, targets, 'softmax')
    assert calibration_error(sure / found, targets, 'softmax') < before / 8


@pytest.mark.parametrize('meaning', MEANINGS)
def test_where_no_temperature_fits_it_is_said(meaning):
    right = torch.eye(3, dtype=torch.float64)
    with pytest.raises(ValueError, match='prediction is right'):
        fit_temperature(8 * right - 4, right, meaning)
    with pytest.raises(ValueError, match='say less than a guess'):
        fit_temperature(4 - 8 * right, right, meaning)
    with pytest.raises(ValueError, match='not finite'):
        fit_temperature(math.nan * right, right, meaning)
    with pytest.raises(ValueError, match='no image has labels'):
        fit_temperature(right[:0], right[:0], meaning)


def test_calibration_error_equals_the_formula():
    logits = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.45, 0.55]]).log()
    targets = torch.tensor([[1.0, 0], [0, 1], [0, 1]])
    # Bins of 0.8 (twice, right once) and of 0.55 (right).
    expected = 100 * (abs(1 - 2 * 0.8) + 0.45) / 3
    actual = calibration_error(logits, targets, 'softmax')
    assert actual == pytest.approx(expected, rel=1e-5)
    present = torch.tensor([[0.8, 0.1]]).logit()
    actual = calibration_error(present, torch.tensor([[1.0, 0.0]]), 'x')
    assert actual == pytest.approx(100 * (0.2 + 0.1) / 2, rel=1e-5)


@pytest.mark.parametrize('meaning', MEANINGS)
def test_what_is_kept_in_float32_is_summed_in_float64(meaning, monkeypatch):
    torch.manual_seed(3)
    logits = 40 * torch.randn(50, 6) + 1e3
    targets = torch.eye(6)[logits.double().softmax(-1).multinomial(1)[:, 0]]
    if meaning == 'multi_label':
        logits -= 1e3
    both = logits, targets, meaning
    exact = logits.double(), targets.double(), meaning
    for measure in (mean_nll, calibration_error):
        assert measure(*both, 1.7) == measure(*exact, 1.7)
    found = mean_nll(*both, 1.7), calibration_error(*both, 1.7)
    monkeypatch.setattr('mmscope.evaluation.calibration.CHUNK', 7)
    assert mean_nll(*both, 1.7) == pytest.approx(found[0], rel=1e-12)
    assert calibration_error(*both, 1.7) == pytest.approx(found[1], rel=1e-12)


def test_logits_of_cells_are_kept_in_float32(
    build_segmentor, make_loader, monkeypatch
):
    kept = []
    head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 4}
    model = build_segmentor(exit_head={**head, 'confidence': 'map'})
    model.backbone.exit_head.num_map_updates.fill_(1)
    monkeypatch.setattr(
        'mmscope.evaluation.calibration.fit_temperature',
        lambda *found: kept.append(found) or 1.0,
    )
    calibrate(model, make_loader(3))
    ((logits, targets, _),) = kept
    assert logits.dtype == targets.dtype == torch.float32
    assert len(logits) > 3 * 4


@pytest.mark.parametrize('kind', ['mean_present', 'map'])
def test_a_calibrated_gate_sweeps_by_its_temperature(
    build_segmentor, make_loader, kind
):
    head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 4}
    model = build_segmentor(exit_head={**head, 'confidence': kind})
    head = model.backbone.exit_head
    part = head.fc
    if kind == 'map':
        head.num_map_updates.fill_(1)
        part = head.fc_map
    with torch.no_grad():
        # Sure of class 0, which is there more often than not.
        part.weight.mul_(0.1)
        part.bias[0] += 6.0
    loader = make_loader(6)
    for batch in loader:
        for sample in batch['data_samples']:
            sample.gt_sem_seg.data[:, 20:] = 0
    found, names = calibrate(model, loader)
    gate = model.backbone.gate
    assert gate.temperature == found.temperature > 1
    assert found.nll < found.nll_before
    assert found.ece != found.ece_before
    assert names == [f'images/{i:03d}.jpg' for i in range(6)]
    assert found.num_images == 6
    cooled = sweep(model, loader).images['confidence']
    attach_gate(model, temperature=1.0)
    sure = sweep(model, loader).images['confidence']
    assert cooled.sum() < sure.sum()


def test_a_map_is_calibrated_on_labels_of_another_size(
    build_segmentor, make_loader
):
    head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 4}
    found = []
    for factor in (1, 2):
        model = build_segmentor(exit_head={**head, 'confidence': 'map'})
        torch.nn.init.constant_(model.backbone.exit_head.fc_map.weight, 0)
        with torch.no_grad():
            model.backbone.exit_head.fc_map.bias[0] = 3.0
        model.backbone.exit_head.num_map_updates.fill_(1)
        loader = make_loader(3)
        for sample in loader[0]['data_samples']:
            labels = sample.gt_sem_seg.data.clone()
            labels[:, 16:] = 0
            labels[:, :16] = 1
            for axis in (1, 2):
                labels = labels.repeat_interleave(factor, axis)
            sample.gt_sem_seg = type(sample.gt_sem_seg)(data=labels)
        found.append(calibrate(model, loader)[0].temperature)
    # Labels of twice the size lie in the same cells.
    assert found[0] == pytest.approx(found[1])


def test_an_untrained_or_missing_exit_is_not_calibrated(
    build_segmentor, make_loader
):
    model = build_segmentor()
    model.backbone.exit_head.num_updates.zero_()
    with pytest.raises(RuntimeError, match='never trained'):
        calibrate(model, make_loader(3))
    with pytest.raises(ValueError, match='needs a two-stage backbone'):
        calibrate(build_segmentor('mmscope.VisionMamba'), make_loader(3))
    with pytest.raises(ValueError, match='no batch to calibrate'):
        calibrate(build_segmentor(), make_loader(0))


@pytest.mark.parametrize(
    ('meta', 'labels', 'expected'),
    [
        # Resized by 2 columns and 3 rows for one, then padded.
        ({'scale_factor': (2.0, 3.0)}, (50, 60), (3.0, 2.0)),
        # Labels went through both.
        ({'scale_factor': (2.0, 3.0)}, (160, 128), (1.0, 1.0)),
        ({}, (80, 64), (2.0, 2.0)),
    ],
)
def test_padding_is_no_scale(meta, labels, expected):
    structures = pytest.importorskip('mmseg.structures')
    from mmengine.structures import PixelData

    data = torch.zeros(1, *labels, dtype=torch.long)
    sample = structures.SegDataSample(gt_sem_seg=PixelData(data=data))
    sizes = {'ori_shape': (50, 60), 'img_shape': (160, 128)}
    sample.set_metainfo({**sizes, **meta})
    assert _input_scale(sample) == expected
