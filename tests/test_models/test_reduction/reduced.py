"""What the tests of the token reductions share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mmscope.models import VideoMamba, VisionMamba
from mmscope.ops import why_unavailable

SHARED = Path(
    os.environ.get('MMSCOPE_SHARED', Path(__file__).parents[4] / 'shared')
)
ARCH = {'embed_dims': 16, 'num_layers': 6}
MAPS = {'out_type': 'featmap', 'out_indices': (1, 3, 5)}
FAMILIES = pytest.mark.parametrize('family', [VisionMamba, VideoMamba])
KINDS = pytest.mark.parametrize(
    'options',
    [
        {},
        MAPS,
        {'summary_position': 'first'},
        {'summary_position': 'none', **MAPS},
    ],
    ids=['cls', 'maps', 'first', 'none'],
)


def make(reduction=None, family=VisionMamba, **options):
    torch.manual_seed(0)
    return family(
        **{'arch': ARCH, 'img_size': 48, 'patch_size': 8, **options},
        reduction=reduction,
    ).eval()


def images(count=3, height=48, width=48, seed=2):
    return torch.randn(
        count, 3, height, width, generator=torch.manual_seed(seed)
    )


def load(file, family, reduction, backend):
    """A released model with weights of its own, its head and its results."""
    path = SHARED / 'fixtures' / file
    if not path.exists():
        pytest.skip(f'{file} is not here (not shipped)')
    if reason := why_unavailable(backend, torch.device('cpu')):
        pytest.skip(reason)
    archive = np.load(path)
    config = json.loads(str(archive['config_json']))
    found = {
        name: torch.from_numpy(archive[name])
        for name in archive.files
        if name != 'config_json'
    }
    model = family(
        arch={
            'embed_dims': config['embed_dim'],
            'num_layers': config['depth'],
        },
        img_size=config['img_size'],
        patch_size=config['patch_size'],
        scan_backend=backend,
        reduction=reduction,
    ).eval()
    weights = {
        name.removeprefix('sd/'): value.float()
        for name, value in found.items()
        if name.startswith('sd/')
    }
    head = torch.nn.Linear(*reversed(weights['head.weight'].shape))
    for name in ('weight', 'bias'):
        getattr(head, name).data = weights.pop(f'head.{name}')
    # No key more and none less than the released model has.
    model.load_state_dict(weights, strict=True)
    return model, head, found


def relative(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()
