import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mmscope.models import VisionMamba
from mmscope.ops import why_unavailable

DATA = Path(__file__).parents[2] / 'data'
SHARED = Path(
    os.environ.get('MMSCOPE_SHARED', Path(__file__).parents[4] / 'shared')
)
RELEASED = SHARED / 'fixtures' / 'vim_oracle_dev.npz'
TOLERANCE = {'reference': 1e-5, 'cpu': 1e-4}

spec = importlib.util.spec_from_file_location(
    'vim_numpy', DATA / 'vim_numpy.py'
)
vim_numpy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vim_numpy)


def load(path):
    archive = np.load(path)
    weights = {
        key[3:]: archive[key] for key in archive.files if key.startswith('sd/')
    }
    return archive, weights


def run(weights, images, patch, backend, img_size):
    reason = why_unavailable(backend, torch.device('cpu'))
    assert reason is None, reason
    embed = weights['cls_token'].shape[-1]
    depth = sum(key.endswith('in_proj.weight') for key in weights)
    model = VisionMamba(
        arch={'embed_dims': embed, 'num_layers': depth},
        img_size=img_size,
        patch_size=patch,
        scan_backend=backend,
    ).eval()
    state = {
        key: torch.from_numpy(value)
        for key, value in weights.items()
        if not key.startswith('head')
    }
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        return model(torch.from_numpy(images))[0].numpy()


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_features_equal_an_independent_numpy_vim(backend):
    archive, weights = load(DATA / 'vim_parity.npz')
    actual = run(
        weights, archive['x'], vim_numpy.PATCH, backend, vim_numpy.IMAGE
    )
    error = np.abs(actual - archive['features']).max()
    assert error < TOLERANCE[backend]


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_features_and_logits_equal_the_released_vim(backend):
    if not RELEASED.exists():
        pytest.skip(f'{RELEASED.name} is not here (not shipped)')
    archive, weights = load(RELEASED)
    actual = run(weights, archive['x'], 16, backend, 48)
    logits = actual @ weights['head.weight'].T + weights['head.bias']
    assert np.abs(actual - archive['features']).max() < TOLERANCE[backend]
    assert np.abs(logits - archive['logits']).max() < TOLERANCE[backend]


def test_the_numpy_vim_equals_the_released_one():
    if not RELEASED.exists():
        pytest.skip(f'{RELEASED.name} is not here (not shipped)')
    archive, weights = load(RELEASED)
    exact = {k: v.astype(np.float64) for k, v in weights.items()}
    for image, wanted in zip(archive['x'], archive['features'], strict=True):
        actual = vim_numpy.features(image.astype(np.float64), exact, 16)
        assert np.abs(actual - wanted).max() < 1e-5
