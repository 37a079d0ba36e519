"""AP of any set of exits is what pycocotools says of the same detections."""

import numpy as np
import pytest
import torch

pytest.importorskip('pycocotools', reason='matches detections')

from mmscope.evaluation import DetectionScore
from mmscope.evaluation.average_precision import RECALLS, hits_needed

from . import coco_data

IDS = coco_data.CAT_IDS


def scored_stages(seed, masks=False, **options):
    """A random data set: coco, samples of both stages, gathered images."""
    rng = np.random.default_rng(seed)
    coco = coco_data.random_coco(rng, **options)
    order = rng.permutation([image['id'] for image in coco.dataset['images']])
    stages = [
        [
            coco_data.random_sample(rng, coco, int(i), quality, masks)
            for i in order
        ]
        for quality in (0.5, 0.8)
    ]
    score = DetectionScore(coco, IDS, masks)
    measured = [[score.measure(s) for s in samples] for samples in stages]
    return coco, stages, score.gather(*measured)


def three(images, exits, iou_type='bbox'):
    found = {'bbox_mAP': images.total(exits), **images.extras(exits)}
    names = ('mAP', 'mAP_50', 'mAP_75')
    return [float(found[f'{iou_type}_{name}']) for name in names]


def gated(exits, coarse, fine):
    return [
        early if gone else late
        for gone, early, late in zip(exits, coarse, fine, strict=True)
    ]


@pytest.mark.parametrize('seed', range(4))
def test_any_exits_equal_pycocotools(seed):
    coco, stages, images = scored_stages(seed)
    rng = np.random.default_rng(seed + 100)
    for ratio in (0.0, 0.3, 0.7, 1.0):
        exits = rng.random(12) < ratio
        expected = coco_data.coco_stats(coco, gated(exits, *stages))
        assert expected[0] > 5
        assert three(images, exits) == pytest.approx(expected, abs=1e-9)


def test_some_of_the_images_equal_pycocotools_on_those():
    coco, (coarse, fine), images = scored_stages(7)
    exits = np.arange(12) % 3 == 0
    for among, samples in ((exits, coarse), (~exits, fine)):
        chosen = gated(among, samples, [None] * 12)
        chosen = [sample for sample in chosen if sample is not None]
        ids = [sample.img_id for sample in chosen]
        expected = coco_data.coco_stats(coco, chosen, ids)
        found = float(images.total(exits, among))
        assert found == pytest.approx(expected[0], abs=1e-9)


def test_masks_equal_pycocotools():
    coco, stages, images = scored_stages(1, masks=True)
    exits = np.arange(12) % 2 == 0
    chosen = gated(exits, *stages)
    for iou_type in ('bbox', 'segm'):
        expected = coco_data.coco_stats(coco, chosen, iou_type=iou_type)
        found = three(images, exits, iou_type=iou_type)
        assert found == pytest.approx(expected, abs=1e-9)


def test_images_alone_equal_pycocotools():
    coco, stages, images = scored_stages(3)
    for stage, samples in zip(('coarse', 'fine'), stages, strict=True):
        found = images.per_image(stage)
        for index, sample in enumerate(samples):
            i = sample.img_id
            # An image with crowds alone has no object either.
            objects = [a for a in coco.imgToAnns[i] if not a['iscrowd']]
            expected = [np.nan, np.nan]
            if objects and len(sample.pred_instances):
                expected = coco_data.coco_stats(coco, [sample], [i])[:2]
            elif objects:
                expected = [0, 0]
            values = [found[key][index] for key in found]
            assert values == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_beginnings_of_an_order_are_sets_of_exits():
    _, _, images = scored_stages(5)
    order = np.random.default_rng(0).permutation(12)
    counts = np.array([0, 1, 5, 12])
    rows = np.zeros((4, 12), dtype=bool)
    for row, count in zip(rows, counts, strict=True):
        row[order[:count]] = True
    expected = images.total(rows)
    assert expected.shape == (4,)
    assert len(set(expected)) == 4
    assert images.after_first(order, counts).tolist() == expected.tolist()


def test_nothing_found_is_zero_and_nothing_there_undefined():
    rng = np.random.default_rng(0)
    coco = coco_data.random_coco(rng, number=4)
    ids = [image['id'] for image in coco.dataset['images']]
    score = DetectionScore(coco, IDS)
    none = [
        coco_data.random_sample(rng, coco, i, quality=0, empty=1) for i in ids
    ]
    images = score.gather(None, [score.measure(sample) for sample in none])
    nobody = np.zeros(4, dtype=bool)
    assert three(images, nobody) == [0, 0, 0]
    bare = np.array([not coco.imgToAnns[i] for i in ids])
    assert bare.sum() == 1
    assert np.isnan(images.total(nobody, bare)).all()
    assert np.isnan(images.per_image('fine')['bbox_mAP']).tolist() == list(
        bare
    )


def test_recalls_are_reached_where_floats_say_so():
    for objects in (1, 3, 7, 49, 100, 12345):
        (needed,) = hits_needed(np.array([objects]))
        reached = np.arange(objects + 1) / objects
        assert (needed == np.searchsorted(reached, RECALLS)).all()
    assert not hits_needed(np.array([0])).any()


def one_sample(**changes):
    rng = np.random.default_rng(2)
    coco = coco_data.random_coco(rng, number=4)
    first = coco.dataset['images'][0]['id']
    sample = coco_data.random_sample(rng, coco, first, 0.9, empty=0)
    for name, value in changes.items():
        target = sample if hasattr(sample, name) else sample.pred_instances
        if value is None:
            delattr(target, name)
        else:
            setattr(target, name, value)
    return coco, sample


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'img_id': None}, 'meta_keys of PackDetInputs'),
        ({'img_id': 5000}, 'image 5000 is not among the 4 images'),
        ({'ori_shape': (20, 30)}, 'predict with rescale=True'),
        ({'labels': torch.full((20,), 4)}, 'predicts class 4, the data set'),
        ({'scores': torch.full((20,), torch.nan)}, 'weights diverged'),
    ],
)
def test_odd_predictions_are_refused(changes, message):
    coco, sample = one_sample(**changes)
    with pytest.raises(ValueError, match=message):
        DetectionScore(coco, IDS).measure(sample)


def test_masks_that_a_model_lacks_are_refused():
    coco, sample = one_sample()
    with pytest.raises(ValueError, match='with_masks=False'):
        DetectionScore(coco, IDS, with_masks=True).measure(sample)


def test_image_that_comes_twice_is_refused():
    coco, sample = one_sample()
    score = DetectionScore(coco, IDS)
    with pytest.raises(ValueError, match='2 images were scored but only 1'):
        score.gather(None, 2 * [score.measure(sample)])
