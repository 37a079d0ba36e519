"""Tiny models of all hosts, images, and the loop that results must equal."""

from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch

PACKERS = {
    'mmpretrain': 'mmpretrain.PackInputs',
    'mmseg': 'mmseg.PackSegInputs',
    'mmdet': 'mmdet.PackDetInputs',
}


def build(scope, config, seed=0):
    """Build a host model whose gate has opinions."""
    pytest.importorskip(f'{scope}.models')
    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS, init_default_scope

    register = import_module(f'{scope}.utils').register_all_modules
    register(init_default_scope=False)
    init_default_scope(scope)
    torch.manual_seed(seed)
    if config['backbone'].get('exit_head'):
        # Fresh weights often predict that no class is there.
        config['backbone']['exit_head']['confidence'] = 'entropy'
    model = MODELS.build(ConfigDict(config)).eval()
    head = getattr(model.backbone, 'exit_head', None)
    if head is not None:
        torch.nn.init.normal_(head.fc.weight, std=1.0)
        head.num_updates.fill_(1)
    elif scope == 'mmpretrain':
        torch.nn.init.normal_(model.head.fc.weight, std=0.5)
    return model


def pipeline(scope):
    """Steps from a file to an item."""
    steps = [{'type': 'LoadImageFromFile'}, {'type': PACKERS[scope]}]
    if scope == 'mmdet':
        resize = {'type': 'mmdet.Resize', 'scale': (80, 80)}
        steps.insert(1, {**resize, 'keep_ratio': True})
    return steps


def write_images(folder, sizes, seed=0):
    """Write noise of several contrasts; give the paths."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    paths = []
    for i, size in enumerate(sizes):
        pixels = 128 + rng.normal(0, 8 + 9 * (i % 7), (*size, 3))
        path = folder / f'{i:03}.png'
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        paths.append(str(path))
    return paths


def items_of(scope, paths):
    """What a data set would give."""
    from mmengine.dataset import Compose
    from mmengine.registry import init_default_scope

    init_default_scope(scope)
    steps = Compose(pipeline(scope))
    return [steps({'img_path': p, 'img_id': i}) for i, p in enumerate(paths)]


def plain_loop(model, scope, paths, threshold):
    """Predict images one by one as a gated host does."""
    from contextlib import nullcontext

    from mmengine.dataset import pseudo_collate

    from mmscope.analysis import observe_any
    from mmscope.models import at_threshold, attach_gate, is_two_stage

    gated = is_two_stage(model)
    if gated and threshold is not None:
        attach_gate(model)
    found = []
    for item in items_of(scope, paths):
        context = at_threshold(model, threshold) if gated else nullcontext()
        with torch.no_grad(), context, observe_any(model) as records:
            (sample,) = model.test_step(pseudo_collate([item]))
        exited = confidence = None
        if gated:
            exited = all(bool(record.exited[0]) for record in records)
            if records[0].confidence is not None:
                confidence = np.mean([float(r.confidence) for r in records])
        found.append(SimpleNamespace(sample=sample, exited=exited))
        found[-1].confidence = confidence
    return found


def median_threshold(model, scope, paths, quantile=0.5):
    """A threshold between two confidences, far from both."""
    found = plain_loop(model, scope, paths, 2.0)
    sure = np.sort([one.confidence for one in found])
    near = int(quantile * len(sure)) + np.arange(-1, 2)
    place = max(near, key=lambda place: sure[place] - sure[place - 1])
    assert sure[place] - sure[place - 1] > 1e-5
    return float(sure[place] + sure[place - 1]) / 2


def assert_same(result, expected):
    """Compare a result of the engine with the plain loop's, field by field."""
    sample = expected.sample
    assert result.exited == expected.exited
    if expected.confidence is None:
        assert result.confidence is None
    else:
        assert result.confidence == pytest.approx(
            expected.confidence, abs=1e-5
        )
    ours = {'exited', 'confidence', 'macs'}
    assert set(result.metainfo_keys()) - ours == set(sample.metainfo_keys())
    for key in sample.metainfo_keys():
        assert np.array_equal(result.get(key), sample.get(key)), key
    assert result.keys() == sample.keys()
    for key, value in sample.items():
        assert_equal_values(key, result.get(key), value)


def assert_equal_values(key, value, expected):
    if hasattr(expected, 'keys'):
        assert type(value) is type(expected)
        assert value.keys() == expected.keys()
        for name, entry in expected.items():
            assert_equal_values(f'{key}.{name}', value.get(name), entry)
    elif isinstance(expected, torch.Tensor):
        assert value.dtype == expected.dtype, key
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    else:
        assert np.array_equal(value, expected), key
