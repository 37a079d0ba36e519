"""Per-image areas add up to mmseg's mIoU."""

import numpy as np
import pytest
import torch

from mmscope.evaluation import SegmentationScore


def test_areas_by_hand():
    score = SegmentationScore(3)
    pred = torch.tensor([0, 0, 1, 1, 2])
    label = torch.tensor([0, 1, 1, 1, 1])
    assert score.areas(pred, label).tolist() == [
        *(1, 2, 0),
        *(2, 4, 1),
        *(1, 4, 0),
    ]


def test_scores_by_hand():
    score = SegmentationScore(3)
    areas = np.array([[1, 2, 0, 2, 4, 1, 1, 4, 0]])
    # Class 2 was predicted but is not there: it counts for the data set.
    assert score.total(areas[0]) == pytest.approx(100 * (0.5 + 0.5 + 0) / 3)
    per_image = score.per_image(areas)
    assert per_image['mIoU'].tolist() == pytest.approx([50])
    assert per_image['aAcc'].tolist() == pytest.approx([60])


def test_nothing_labelled_is_nan():
    score = SegmentationScore(2)
    areas = np.zeros((2, 6), dtype=int)
    assert np.isnan(score.total(areas)).all()
    assert np.isnan(score.per_image(areas)['aAcc']).all()


def test_summed_areas_give_the_miou_of_mmseg(make_loader):
    from mmseg.evaluation import IoUMetric

    loader = make_loader(5, batch_size=5)
    samples = loader[0]['data_samples']
    generator = torch.Generator().manual_seed(1)
    for sample in samples:
        noise = torch.rand(sample.gt_sem_seg.shape, generator=generator)
        label = sample.gt_sem_seg.data
        guess = torch.where(noise[None] < 0.7, label, (label + 1) % 4)
        sample.pred_sem_seg = sample.gt_sem_seg.new(data=guess.clamp(max=3))
    metric = IoUMetric()
    metric.dataset_meta = loader.dataset.metainfo
    metric.process(None, [sample.to_dict() for sample in samples])
    score = SegmentationScore(4)
    areas = np.stack([score.measure(sample) for sample in samples])
    expected = metric.evaluate(5)['mIoU']
    assert score.total(areas.sum(0)) == pytest.approx(expected, abs=0.006)


def test_sizes_must_agree(make_loader):
    sample = make_loader(1)[0]['data_samples'][0]
    sample.pred_sem_seg = sample.gt_sem_seg.new(data=torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match=r'prediction is \(3, 4\)'):
        SegmentationScore(4).measure(sample)
