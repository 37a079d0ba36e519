"""What full batches win: the engine against a plain gated loop and ViM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmscope.evaluation.interleaved_timing import (
    Entry,
    Timing,
    time_interleaved,
)
from mmscope.evaluation.loading import build_model, enter_host
from mmscope.evaluation.tables import Column, format_table, spread_text
from mmscope.inference.engine import TwoStageEngine
from mmscope.inference.samples import new_sample
from mmscope.models import at_threshold, observe

EXITS = (0.25, 0.5, 0.75)
BATCHES = (1, 8)
CLASSES = 1000
DENSE_CLASSES = 21
VIM, NONE, ALL = 'ViM', 'nobody exits', 'all exit'
LOOP, ENGINE = 'loop', 'engine'
COLUMNS = (
    Column('host', 'model'),
    Column('subject', 'how'),
    Column('batch', 'batch', '.0f'),
    Column('percent', 'exits %', '.0f'),
    Column('speed', 'images/s'),
    Column('times_vim', 'x ViM', '.2f'),
    Column('share', 'share won %', '.0f'),
)


@dataclass
class StreamRow:
    """One way to predict a stream: ViM, loop, engine, nobody or all exit.

    ``exits`` is a fraction of the images; ``times_vim`` the speed over ViM's
    at the same batch; ``share`` the percent of the saving that is promised
    against nobody exiting at the largest batch, where some may exit.
    """

    host: str
    subject: str
    batch: int
    exits: float
    images_per_s: float
    images_per_s_iqr: tuple[float, float]
    times_vim: float
    share: float | None = None


def classifier(backbone: str, arch: str | dict, side: int) -> dict[str, Any]:
    """Config of mmpretrain's ImageClassifier of 1000 classes."""
    sizes = {'tiny': 192, 'small': 384, 'base': 768}
    dims = sizes[arch] if isinstance(arch, str) else arch['embed_dims']
    return dict(
        type='ImageClassifier',
        data_preprocessor=dict(
            type='ClsDataPreprocessor', mean=[127.5] * 3, std=[64.0] * 3
        ),
        backbone=dict(type=f'mmscope.{backbone}', arch=arch, img_size=side),
        head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=dims),
    )


def segmentor(backbone: str, arch: str | dict, side: int) -> dict[str, Any]:
    """Config of mmseg's EncoderDecoder: an UperNet of 21 classes."""
    dims = classifier(backbone, arch, side)['head']['in_channels']
    depth = 24 if isinstance(arch, str) else arch['num_layers']
    levels = [depth * part // 4 - 1 for part in (1, 2, 3, 4)]
    config = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[127.5] * 3, std=[64.0] * 3
        ),
        backbone=dict(
            type=f'mmscope.{backbone}',
            arch=arch,
            img_size=side,
            out_type='featmap',
            out_indices=levels,
        ),
        neck=dict(
            type='Feature2Pyramid',
            embed_dim=dims,
            rescales=[4, 2, 1, 0.5],
            norm_cfg=dict(type='BN'),
        ),
        decode_head=dict(
            type='UPerHead',
            in_channels=[dims] * 4,
            in_index=[0, 1, 2, 3],
            channels=dims,
            num_classes=DENSE_CLASSES,
            norm_cfg=dict(type='BN'),
            align_corners=False,
        ),
        test_cfg=dict(mode='whole'),
    )
    if backbone == 'MambaScope':
        config['backbone']['exit_head'] = dict(
            type='mmscope.MultiLabelExitHead',
            num_classes=DENSE_CLASSES,
            confidence='entropy',
        )
    return config


HOSTS: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    'classifier': ('mmpretrain', classifier),
    'segmentor': ('mmseg', segmentor),
}


def build(host: str, backbone: str, arch: str | dict, side: int) -> nn.Module:
    """Build a model for timing, in evaluation mode, with random weights.

    Args:
        host (str): 'classifier' or 'segmentor'.
        backbone (str): 'VisionMamba' or 'MambaScope', whose exit head then
            says that it was trained.
        arch (str | dict): Of the backbone.
        side (int): Pixels.
    """
    scope, config = HOSTS[host]
    described = config(backbone, arch, side)
    cfg = Config({'default_scope': scope, 'model': described})
    enter_host(cfg)
    torch.manual_seed(0)
    model = build_model(cfg, device='cpu')
    head = getattr(model.backbone, 'exit_head', None)
    if head is not None:
        nn.init.normal_(head.fc.weight, std=1.0)
        head.num_updates.fill_(1)
    return model


def make_images(number: int, side: int) -> list[Tensor]:
    """Make noise of different contrasts: preprocessed images (3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(0.2, 2.0, number)[
        torch.randperm(number, generator=generator)
    ]
    draw = partial(torch.randn, 3, side, side, generator=generator)
    return [scale * draw() for scale in scales]


@torch.no_grad()
def run_loop(
    model: nn.Module,
    images: Sequence[Tensor],
    batch: int,
    threshold: float | None,
) -> None:
    """Predict in batches as they come, as a host's own loop does.

    The threshold is None for a model of one stage.
    """
    for first in range(0, len(images), batch):
        imgs = torch.stack(images[first : first + batch])
        size = tuple(imgs.shape[-2:])
        samples = [new_sample(model, size) for _ in imgs]
        if threshold is None:
            model(imgs, samples, mode='predict')
            continue
        with at_threshold(model, threshold):
            model(imgs, samples, mode='predict')


def exit_thresholds(
    model: nn.Module, images: Sequence[Tensor], exits: Sequence[float]
) -> list[float]:
    """Choose thresholds midway between confidences, so that parts exit."""
    with observe(model) as records:
        run_loop(model, images, 1, 0.0)
    sure = np.sort([float(record.confidence) for record in records])[::-1]
    places = [round(ratio * len(sure)) for ratio in exits]
    return [float(sure[i - 1] + sure[i]) / 2 for i in places]


def measure_streams(
    host: str,
    arch: str | dict,
    side: int,
    number: int,
    rounds: int,
    exits: Sequence[float] = EXITS,
) -> list[StreamRow]:
    """Time ViM, plain gated loops and the engine in turns: a row each.

    Args:
        host (str): 'classifier' or 'segmentor'.
        arch (str | dict): Of the backbones.
        side (int): Pixels.
        number (int): Images of a run.
        rounds (int): Timed runs of each.
        exits (Sequence[float]): Exit ratios. Defaults to 25, 50 and 75 %.
    """
    images = make_images(number, side)
    vim = build(host, 'VisionMamba', arch, side)
    scope = build(host, 'MambaScope', arch, side)
    largest = max(BATCHES)
    # The engine wires the gate.
    TwoStageEngine(scope, 0.5)
    etas = exit_thresholds(scope, images, exits)
    runs: dict[tuple[str, int, float], Entry] = {
        (NONE, largest, 0.0): _loop(scope, images, largest, 2.0),
        (ALL, largest, 1.0): _loop(scope, images, largest, 0.0),
    }
    for batch in BATCHES:
        runs[VIM, batch, 0.0] = _loop(vim, images, batch, None)
        for ratio, eta in zip(exits, etas, strict=True):
            runs[LOOP, batch, ratio] = _loop(scope, images, batch, eta)
    for ratio, eta in zip(exits, etas, strict=True):
        engine = TwoStageEngine(scope, eta, largest, largest)
        run = partial(_exhaust, engine, images)
        runs[ENGINE, largest, ratio] = Entry(run)
    names = {' '.join(map(str, key)): key for key in runs}
    timings = time_interleaved(
        {name: runs[key] for name, key in names.items()},
        rounds,
        torch.device('cpu'),
        warm_up=1,
    ).timings
    found = {key: timings[name] for name, key in names.items()}
    return [_row(host, key, found, number) for key in found]


def _loop(model: nn.Module, *options: Any) -> Entry:
    return Entry(partial(run_loop, model, *options))


def _exhaust(engine: TwoStageEngine, images: Sequence[Tensor]) -> None:
    for _ in engine(images):
        pass


def _row(
    host: str,
    key: tuple[str, int, float],
    found: dict[tuple[str, int, float], Timing],
    number: int,
) -> StreamRow:
    subject, batch, exits = key
    speed = found[key].summary(number)
    iqr = tuple(round(x, 3) for x in speed['images_per_s_iqr'])
    times = found[VIM, batch, 0.0].median / found[key].median
    share = None
    if subject in (LOOP, ENGINE) and batch == max(BATCHES):
        none, everyone = (
            found[end].median
            for end in ((NONE, batch, 0.0), (ALL, batch, 1.0))
        )
        won = none - found[key].median
        share = round(100 * won / (exits * (none - everyone)), 1)
    median = round(speed['images_per_s'], 3)
    return StreamRow(host, *key, median, iqr, round(times, 3), share)


def streams_section(rows: list[StreamRow]) -> str:
    """Format all ways beside each other."""
    frame = pd.DataFrame(rows)
    frame['percent'] = 100 * frame.exits
    frame['speed'] = [
        spread_text(x.images_per_s, x.images_per_s_iqr, '.1f') for x in rows
    ]
    return format_table(frame, COLUMNS)
