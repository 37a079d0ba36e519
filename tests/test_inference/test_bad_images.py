"""An image that fits no model is passed over, and the others go on."""

import re

import numpy as np
import pytest
import torch
from builders import classification, segmentation

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

from mmscope.inference import EngineServer, ImageFailure, TwoStageEngine

from .streams import build, items_of, pipeline, write_images

WIDE = {'type': 'Resize', 'scale': (256, 64), 'keep_ratio': True}


def failures(results):
    return {
        place: (one.name, one.reason)
        for place, one in enumerate(results)
        if isinstance(one, ImageFailure)
    }


@pytest.fixture(scope='module')
def classifier():
    return build('mmpretrain', classification.classifier())


def thin_and_others(folder, mode, divisor=None):
    """What a segmentor gives for three images, the second 60 x 1 pixels."""
    config = segmentation.segmentor(mode=mode)
    config['data_preprocessor']['test_cfg'] = {'size_divisor': divisor or 1}
    model = build('mmseg', config)
    paths = write_images(folder, [(64, 64), (1, 60), (64, 64)])
    steps = pipeline('mmseg')
    steps.insert(1, WIDE)
    return paths, list(TwoStageEngine(model, 0.5, 2, 2, pipeline=steps)(paths))


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_too_thin_an_image_is_passed_over(tmp_path, mode):
    paths, results = thin_and_others(tmp_path, mode)
    ((place, (name, reason)),) = failures(results).items()
    assert (place, name) == (1, paths[1])
    assert 'image of 4 x 256 pixels is smaller than one patch' in reason
    assert [results[i].img_path for i in (0, 2)] == [paths[0], paths[2]]


def test_padding_may_make_it_large_enough(tmp_path):
    _, results = thin_and_others(tmp_path, 'whole', divisor=32)
    assert failures(results) == {}
    assert results[1].pred_sem_seg.shape == (1, 60)


def test_too_small_a_tensor_is_passed_over(classifier):
    images = [torch.zeros(3, side, side) for side in (64, 4, 64, 4)]
    results = list(TwoStageEngine(classifier, 0.5, 2, 2)(images))
    found = failures(results)
    assert {place: name for place, (name, _) in found.items()} == {
        1: 'image 1',
        3: 'image 3',
    }
    assert '4 x 4 pixels is smaller' in found[1][1]


def test_one_stage_backbones_are_asked_too():
    config = classification.classifier(
        'ImageClassifier', {'type': 'LinearClsHead', 'topk': (1,)}
    )
    config['backbone']['type'] = 'mmscope.VisionMamba'
    model = build('mmpretrain', config)
    images = [torch.zeros(3, side, side) for side in (4, 64)]
    assert failures(TwoStageEngine(model, None)(images)).keys() == {0}


MALFORMED = {
    'a list': ({'inputs': [1, 2]}, r'\(C, H, W\), got list'),
    'a word': ({'inputs': 'x'}, 'got str'),
    'nothing': ({'inputs': None}, 'got NoneType'),
    'no inputs': ({}, 'got NoneType'),
    'a batch': ({'inputs': torch.zeros(1, 3, 64, 64)}, r'\(1, 3, 64, 64\)'),
    'objects': ({'inputs': np.full((3, 64, 64), None)}, 'object'),
    'no sample': (
        {'inputs': torch.zeros(3, 64, 64), 'data_samples': None},
        'data_samples.*got NoneType',
    ),
}


@pytest.fixture
def good(tmp_path):
    return items_of('mmpretrain', write_images(tmp_path, [(64, 64)] * 2))


@pytest.mark.parametrize('kind', MALFORMED)
def test_an_item_without_an_image_is_passed_over(classifier, good, kind):
    wrong, says = MALFORMED[kind]
    item = {'data_samples': good[0]['data_samples'], **wrong}
    engine = TwoStageEngine(classifier, 0.5, 4, 4, max_wait=0.2)
    first, bad, last = engine([good[0], item, good[1]])
    assert isinstance(bad, ImageFailure)
    assert bad.name == 'image 1'
    assert re.search(says, bad.reason)
    for one in (first, last):
        assert 'pred_label' in one


@pytest.mark.parametrize('kind', MALFORMED)
def test_a_malformed_request_fails_alone(classifier, good, kind):
    wrong, _ = MALFORMED[kind]
    item = {'data_samples': good[0]['data_samples'], **wrong}
    engine = TwoStageEngine(classifier, 0.5, 4, 4, max_wait=0.05)
    with EngineServer(engine) as server:
        futures = [server.submit(one) for one in (good[0], item)]
        first, bad = (future.result(10) for future in futures)
        assert 'pred_label' in first
        assert isinstance(bad, ImageFailure)
        assert 'pred_label' in server.submit(good[1]).result(10)


def test_a_pipeline_that_packs_nothing_says_so(classifier, tmp_path):
    (path,) = write_images(tmp_path, [(64, 64)])
    steps = pipeline('mmpretrain')[:1]
    (failed,) = TwoStageEngine(classifier, 0.5, pipeline=steps)([path])
    assert (failed.name, 'has inputs' in failed.reason) == (path, True)
