"""Models with weights of their own, and what released code made of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(
    os.environ.get('MMSCOPE_SHARED', Path(__file__).parents[3] / 'shared')
)


def read(file):
    """Config and arrays of a fixture, float32 where they are floating."""
    path = SHARED / 'fixtures' / file
    if not path.exists():
        pytest.skip(f'{file} is not here (not shipped)')
    archive = np.load(path)
    values = {name: archive[name] for name in archive.files}
    config = json.loads(str(values.pop('config_json')))
    found = {name: torch.from_numpy(value) for name, value in values.items()}
    return config, {
        name: value.float() if value.is_floating_point() else value
        for name, value in found.items()
    }


def build(family, config, values, **options):
    """The backbone of a fixture in evaluation, its head left out."""
    model = family(
        arch={
            'embed_dims': config['embed_dim'],
            'num_layers': config['depth'],
        },
        img_size=config['img_size'],
        patch_size=config['patch_size'],
        **options,
    ).eval()
    weights = {
        name.removeprefix('sd/'): value
        for name, value in values.items()
        if name.startswith('sd/') and not name.startswith('sd/head.')
    }
    # No key more and none less than the released model has.
    model.load_state_dict(weights, strict=True)
    return model


def relative(actual, expected):
    """Largest error over the largest expected value."""
    error = (actual.detach() - expected).abs().max()
    return (error / expected.abs().max()).item()
