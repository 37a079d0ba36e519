"""A stream gives what a plain gated loop gives, in full batches."""

import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import classification, detection, hosts, segmentation

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

from mmscope.inference import ImageFailure, TwoStageEngine

from .streams import (
    assert_same,
    build,
    items_of,
    median_threshold,
    pipeline,
    plain_loop,
    write_images,
)

SQUARE = [(64, 64)] * 11
# Three sizes in turn, with a rest in each.
MIXED = [(64, 64), (48, 64), (64, 96)] * 4 + [(64, 64)]
PLAIN = {'type': 'LinearClsHead', 'topk': (1,)}


def vision_mamba(**options):
    model = classification.classifier('ImageClassifier', PLAIN, **options)
    model['backbone']['type'] = 'mmscope.VisionMamba'
    return model


HOSTS = {
    'classifier': ('mmpretrain', classification.classifier, SQUARE),
    'stock classifier': (
        'mmpretrain',
        lambda: classification.classifier('ImageClassifier', PLAIN),
        MIXED,
    ),
    'coverage': (
        'mmpretrain',
        lambda: classification.classifier(
            score_metric='detail', refine_coverage=0.7
        ),
        SQUARE,
    ),
    'wrapped ResNet': ('mmpretrain', hosts.classifier, SQUARE),
    'segmentor': ('mmseg', segmentation.segmentor, SQUARE),
    'stock segmentor': (
        'mmseg',
        lambda: segmentation.segmentor('EncoderDecoder'),
        MIXED,
    ),
    'windows': (
        'mmseg',
        lambda: segmentation.segmentor(mode='slide'),
        [(64, 96)] * 7,
    ),
    'wrapped ResNet segmentor': (
        'mmseg',
        lambda: hosts.on_resnet(segmentation.segmentor('EncoderDecoder')),
        MIXED,
    ),
    'mask cascade': ('mmdet', detection.cascade, MIXED),
    'one-stage detector': ('mmdet', detection.retinanet, SQUARE),
}
ONE_STAGE = {
    'plain': vision_mamba,
    'reduced': lambda: vision_mamba(
        reduction={
            'type': 'mmscope.RMeeTo',
            'merge_tokens': 2,
            'merge_interval': 1,
        }
    ),
    'ResNet': lambda: {
        **vision_mamba(),
        'backbone': hosts.resnet(3),
        'neck': {'type': 'GlobalAveragePooling'},
        'head': {**PLAIN, 'num_classes': 3, 'in_channels': 32},
    },
}


def watched(engine, found):
    """Note the size of each batch that runs."""
    host = engine._host
    for stage in host.stages:
        run = getattr(host, stage)

        def noted(batch, stage=stage, run=run):
            found.append((stage, len(batch)))
            run(batch)

        setattr(host, stage, noted)
    return engine


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('photos'), [(64, 64)] * 24)


@pytest.fixture(scope='module')
def classifier(photos):
    """A model, and a threshold at which half of the photos exit."""
    model = build('mmpretrain', classification.classifier())
    return model, median_threshold(model, 'mmpretrain', photos)


def classify(model, threshold, **options):
    options = {'coarse_batch': 4, 'fine_batch': 4, **options}
    steps = pipeline('mmpretrain')
    return TwoStageEngine(model, threshold, pipeline=steps, **options)


@pytest.mark.parametrize('name', HOSTS)
def test_results_are_those_of_a_plain_gated_loop(name, tmp_path):
    scope, config, sizes = HOSTS[name]
    model = build(scope, config())
    paths = write_images(tmp_path, sizes)
    # An image exits only if all of its windows do.
    quantile = 0.2 if name == 'windows' else 0.5
    threshold = median_threshold(model, scope, paths, quantile)
    expected = plain_loop(model, scope, paths, threshold)
    assert {one.exited for one in expected} >= {True, False}
    engine = TwoStageEngine(
        model,
        threshold,
        coarse_batch=3,
        fine_batch=2,
        pipeline=pipeline(scope),
    )
    results = list(engine(paths))
    assert len(results) == len(expected)
    for result, one in zip(results, expected, strict=True):
        assert_same(result, one)


@pytest.mark.parametrize('name', ONE_STAGE)
def test_a_backbone_of_one_stage_is_a_batched_loop(name, tmp_path):
    model = build('mmpretrain', ONE_STAGE[name]())
    paths = write_images(tmp_path, MIXED)
    batches = []
    engine = watched(classify(model, None), batches)
    results = list(engine(paths))
    expected = plain_loop(model, 'mmpretrain', paths, None)
    for result, one in zip(results, expected, strict=True):
        assert_same(result, one)
    assert Counter(batches) == {('predict', 4): 3, ('predict', 1): 1}
    with pytest.raises(ValueError, match='cannot exit'):
        classify(model, 0.5)


@pytest.mark.parametrize(('threshold', 'stages'), [(0.0, 2), (2.0, 3)])
def test_all_exit_or_nobody_does(classifier, photos, threshold, stages):
    batches = []
    engine = watched(classify(classifier[0], threshold), batches)
    results = list(engine(photos))
    assert {one.exited for one in results} == {threshold == 0}
    assert len({stage for stage, _ in batches}) == stages
    expected = plain_loop(classifier[0], 'mmpretrain', photos, threshold)
    for result, one in zip(results, expected, strict=True):
        assert_same(result, one)


def test_no_threshold_asks_nobody(classifier, photos):
    results = list(classify(classifier[0], None)(photos[:5]))
    assert {(one.exited, one.confidence) for one in results} == {(False, None)}


def test_all_stages_run_on_full_batches(photos, tmp_path):
    model = build('mmseg', segmentation.segmentor())
    threshold = median_threshold(model, 'mmseg', photos)
    batches = []
    engine = TwoStageEngine(model, threshold, 8, 4, pipeline=pipeline('mmseg'))
    results = list(watched(engine, batches)(photos))
    stay = sum(not one.exited for one in results)
    ragged = Counter(batches) - Counter(
        {('coarse', 8): 3, ('fine', 4): stay // 4, ('predict', 4): 6}
    )
    assert ragged == ({('fine', stay % 4): 1} if stay % 4 else {})
    assert 4 < stay < 20


def test_costs_are_those_of_the_metric(classifier, photos):
    from mmscope.analysis import model_costs

    costs = model_costs(classifier[0], (64, 64))
    for result in classify(*classifier)(photos):
        assert result.macs == (costs.exited if result.exited else costs.full)


def test_every_kind_of_image_gives_the_same(classifier, photos):
    import cv2

    model, threshold = classifier
    items = items_of('mmpretrain', photos)
    kinds = [
        photos,
        [cv2.imread(path) for path in photos],
        items_of('mmpretrain', photos),
        [
            model.data_preprocessor({'inputs': [item['inputs']]})['inputs'][0]
            for item in items
        ],
    ]
    scores = [
        torch.stack([one.pred_score for one in classify(*classifier)(kind)])
        for kind in kinds
    ]
    for found in scores[1:]:
        assert torch.equal(found, scores[0])


def test_a_tensor_of_a_detector_needs_no_data_sample(tmp_path):
    model = build('mmdet', detection.cascade())
    images = torch.randn(3, 3, 64, 64)
    results = list(TwoStageEngine(model, 2.0)(images))
    assert [one.ori_shape for one in results] == 3 * [(64, 64)]
    assert all('pred_instances' in one for one in results)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_damaged_images_are_reported_in_their_places(
    classifier, photos, tmp_path, num_workers
):
    damaged = tmp_path / 'half.png'
    content = Path(photos[0]).read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    images = [
        *photos[:3],
        str(damaged),
        np.zeros((4, 4), np.uint8),
        *photos[3:9],
        str(tmp_path / 'absent.png'),
    ]
    engine = classify(*classifier, num_workers=num_workers)
    results = list(engine(images))
    failed = {
        i: one.name
        for i, one in enumerate(results)
        if isinstance(one, ImageFailure)
    }
    assert failed == {3: str(damaged), 4: 'image 4', 11: images[-1]}
    good = [one.img_path for i, one in enumerate(results) if i not in failed]
    assert good == photos[:9]


@pytest.mark.parametrize(
    ('wrong', 'says'),
    [
        (torch.zeros(1, 64, 64), r'\(3, H, W\).*got \(1, 64, 64\)'),
        (torch.zeros(64, 64), r'got \(64, 64\)'),
        (torch.zeros(3, 64, 64, dtype=torch.float64), 'float32.*float64'),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), 'float32.*uint8'),
        (torch.eye(64).log().expand(3, 64, 64), '12096 of 12288.*infinite'),
        (torch.full((3, 64, 64), torch.nan), '12288 of 12288.*NaN'),
    ],
)
def test_a_tensor_that_the_model_cannot_take_is_passed_over(
    classifier, wrong, says
):
    good = torch.randn(3, 64, 64)
    first, bad, last = classify(*classifier)([good, wrong, good])
    assert isinstance(bad, ImageFailure)
    assert bad.name == 'image 1'
    assert re.search(says, bad.reason)
    assert torch.equal(first.pred_score, last.pred_score)


def test_an_error_of_the_stream_comes_after_the_results_before_it(
    classifier, photos
):
    def stream():
        yield from photos[:6]
        raise OSError('the disk is gone')

    results = classify(*classifier)(stream())
    found = [next(results).img_path for _ in range(6)]
    assert found == photos[:6]
    with pytest.raises(OSError, match='the disk is gone'):
        next(results)


def test_what_is_no_image_is_an_error_that_says_what_is(classifier, photos):
    with pytest.raises(ValueError, match='an image is a path'):
        list(classify(*classifier)([photos[0], 7]))
    with pytest.raises(ValueError, match='give pipeline='):
        list(TwoStageEngine(*classifier)(photos[:1]))


ONE_IMAGE = {
    'a path': lambda path: path,
    'a Path': Path,
    'a picture': lambda path: np.zeros((8, 8, 3), np.uint8),
    'a tensor': lambda path: torch.zeros(3, 8, 8),
    'an item': lambda path: {'inputs': torch.zeros(3, 8, 8)},
    'nothing': lambda path: None,
}


@pytest.mark.parametrize('kind', ONE_IMAGE)
def test_one_image_is_not_taken_apart(classifier, photos, kind):
    engine = classify(*classifier)
    with pytest.raises(ValueError, match=r'for one image give \[image\]'):
        list(engine(ONE_IMAGE[kind](photos[0])))
    assert len(list(engine(photos[:1]))) == 1


@pytest.mark.parametrize('wrong', [None, torch.nn.Linear(2, 2), 'backbone'])
def test_what_is_no_host_is_refused(classifier, wrong):
    model = classifier[0].backbone if wrong == 'backbone' else wrong
    with pytest.raises(ValueError, match='expected a host model'):
        TwoStageEngine(model, None)


def test_memory_is_bounded_by_back_pressure(classifier, photos):
    taken = 0

    def stream():
        nonlocal taken
        for path in photos * 4:
            taken += 1
            yield path

    engine = classify(*classifier, max_waiting=8)
    ahead = 0
    for handed_out, _ in enumerate(engine(stream()), start=1):
        ahead = max(ahead, taken - handed_out)
    # Inside, read ahead, and one in the hand of the thread that reads.
    assert ahead <= 8 + 4 + 2
    assert taken == handed_out == 96


def test_results_are_made_when_they_can_be_handed_out(classifier, photos):
    """Logits of each pixel are large: nobody waits with them in hand."""
    expected = plain_loop(classifier[0], 'mmpretrain', photos, classifier[1])
    order = sorted(range(len(photos)), key=lambda i: expected[i].exited)
    images = [photos[i] for i in (order[0], *order[-11:])]
    batches = []
    engine = watched(classify(*classifier, max_waiting=8), batches)
    results = [one.img_path for one in engine(images)]
    assert results == images
    assert [stage for stage, _ in batches].index('fine') == 2
    assert ('predict', 4) not in batches[:3]


def test_waiting_is_bounded_in_time(classifier, photos):
    def slow():
        yield from photos[:2]
        time.sleep(1.5)
        yield photos[2]

    start = time.monotonic()
    results = classify(*classifier, max_wait=0.1)(slow())
    next(results), next(results)
    assert time.monotonic() - start < 1
    assert len(list(results)) == 1


def test_files_wait_for_a_full_batch_without_a_limit(classifier, photos):
    batches = []
    engine = watched(classify(*classifier, coarse_batch=5), batches)
    list(engine(photos[:10]))
    assert [n for stage, n in batches if stage == 'coarse'] == [5, 5]


def test_leaving_early_ends_threads_and_processes(classifier, photos):
    import multiprocessing
    import threading

    results = classify(*classifier, num_workers=2)(photos * 100)
    next(results)
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert multiprocessing.active_children() == []
    deadline = time.monotonic() + 60
    while any(t.name == 'mmscope-images' for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_model_is_left_as_it_was(classifier, photos):
    model = classifier[0]
    engine = classify(*classifier)
    before = dict(vars(model.backbone))
    hooks = sum(len(m._forward_hooks) for m in model.modules())
    results = engine(photos)
    next(results)
    assert torch.is_grad_enabled()
    list(results)
    assert dict(vars(model.backbone)) == before
    assert sum(len(m._forward_hooks) for m in model.modules()) == hooks
    assert model.backbone.exit_threshold is None


def test_the_config_of_a_model_says_how_files_are_read(classifier, photos):
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    steps = [
        {'type': 'LoadImageFromFile'},
        {'type': 'LoadAnnotations'},
        {'type': 'PackInputs'},
    ]
    model, threshold = classifier
    loader = {'dataset': {'pipeline': steps}}
    model.cfg = Config(
        {'default_scope': 'mmpretrain', 'test_dataloader': loader}
    )
    # Whatever was built last.
    init_default_scope('mmengine')
    try:
        found = list(TwoStageEngine(model, threshold)(photos))
    finally:
        del model.cfg
    expected = list(classify(*classifier)(photos))
    for result, one in zip(found, expected, strict=True):
        assert torch.equal(result.pred_score, one.pred_score)


def test_an_engine_predicts_one_stream_at_a_time(classifier, photos):
    engine = classify(*classifier)
    first = engine(photos)
    next(first)
    with pytest.raises(RuntimeError, match='predicts another stream'):
        next(engine(photos))
    first.close()
    assert len(list(engine(photos))) == len(photos)


@pytest.mark.parametrize(
    'wrong',
    [
        {'coarse_batch': 0},
        {'fine_batch': 1.5},
        {'max_waiting': 0},
        {'max_wait': -1.0},
        {'max_wait': float('inf')},
        {'coarse_batch': '4'},
        {'fine_batch': True},
        {'num_workers': -1},
    ],
)
def test_impossible_sizes_are_refused(classifier, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        classify(*classifier, **wrong)
