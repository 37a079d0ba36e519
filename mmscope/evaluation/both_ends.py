"""Every image of a data set, predicted at both exits in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmscope.analysis import SharedCostCounter, stage_costs
from mmscope.analysis.costs import direction_count, is_two_stage
from mmscope.analysis.model_costs import record_patch_grids
from mmscope.evaluation.curves import NOBODY_EXITS
from mmscope.evaluation.ends import BothEnds
from mmscope.evaluation.image_costs import image_costs, pays_head_by_stage
from mmscope.evaluation.mixtures import STAGES, ImageScore
from mmscope.models.scoping import (
    MULTI_LABEL_CONFIDENCES,
    SOFTMAX_CONFIDENCES,
    attach_gate,
    multi_label_confidence,
    softmax_confidence,
    unwrap_model,
)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put a model in evaluation mode and give its state back afterwards.

    Args:
        model (nn.Module): Host model.

    Yields:
        nn.Module: Its backbone. Mode, exit threshold and exit records are
        restored.
    """
    backbone = unwrap_model(model).backbone
    training = model.training
    kept = {
        name: getattr(backbone, name)
        for name in ('exit_threshold', 'exit_records')
        if hasattr(backbone, name)
    }
    model.eval()
    try:
        with torch.no_grad():
            yield backbone
    finally:
        model.train(training)
        for name, value in kept.items():
            setattr(backbone, name, value)


def score_both_ends(
    model: nn.Module,
    dataloader: Iterable,
    score: ImageScore,
    convention: str = 'paper',
) -> BothEnds:
    """Predict every image twice: everyone exits, nobody exits.

    Args:
        model (nn.Module): Host model.
        dataloader (Iterable): Test batches.
        score (ImageScore): Task score.
        convention (str): How MACs are counted. Defaults to 'paper'.

    Returns:
        BothEnds: Per-image statistics; a backbone without early exit has
        neither confidence nor coarse statistics.

    Raises:
        ValueError: If there is no image or the convention is unknown.
        RuntimeError: See :func:`sweep`.
    """
    direction_count(convention)
    columns: dict[str, list] = {}
    with evaluating(model) as backbone:
        counter = SharedCostCounter(unwrap_model(model), backbone)
        run = _run_gated if is_two_stage(backbone) else _run_single
        try:
            for batch in dataloader:
                found = run(model, backbone, batch, score, counter, convention)
                for name, values in found.items():
                    columns.setdefault(name, []).extend(values)
        finally:
            counter.remove()
    if not columns:
        raise ValueError('the data loader gave no batch to evaluate')
    return _put_together(columns, score)


def _put_together(columns: dict[str, list], score: ImageScore) -> BothEnds:
    """Turn lists with one entry an image into what a sweep needs."""
    names = columns.pop('names')
    scored = score.gather(*(columns.pop(stage, None) for stage in STAGES))
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    grouped = {
        group: {
            name.removeprefix(f'{group}/'): arrays.pop(name)
            for name in list(arrays)
            if name.startswith(f'{group}/')
        }
        for group in ('kinds', 'details')
    }
    arrays.setdefault('confidence', None)
    return BothEnds(names=names, scored=scored, **grouped, **arrays)


def _run_gated(
    model: nn.Module,
    backbone: nn.Module,
    batch: Any,
    score: ImageScore,
    counter: SharedCostCounter,
    convention: str,
) -> dict[str, list]:
    """Predict one batch at both ends."""
    attach_gate(model, 0.0)
    backbone.gate.check_trained()
    # Both runs write into the same data samples: measure in between.
    with _exit_logits(backbone) as logits:
        exited = _run(model, backbone, batch, score, counter)
    attach_gate(model, NOBODY_EXITS)
    full = _run(model, backbone, batch, score, counter)
    record, number = full['record'], len(full['names'])
    (costs,) = image_costs(backbone, [record], full['outside'], convention)
    (short,) = image_costs(backbone, [record], exited['outside'], convention)
    tokens = record.coarse_tokens
    return {
        **_kinds(backbone, logits),
        **_prefixed('details/', exited['details']),
        **_prefixed('details/coarse_', exited['prediction']),
        **_prefixed('details/fine_', full['prediction']),
        'names': exited['names'],
        'confidence': exited['record'].confidence.double().tolist(),
        'coarse': exited['statistics'],
        'fine': full['statistics'],
        'exit_tokens': number * [tokens],
        'full_tokens': number * [tokens + record.fine_tokens],
        'exit_macs': number * [costs.exited - costs.shared],
        'full_macs': number * [costs.full - costs.shared],
        'exit_shared': number * [short.shared],
        'full_shared': number * [costs.shared],
    }


def _kinds(backbone: nn.Module, logits: list[Tensor]) -> dict[str, list]:
    """Every confidence that the deciding head offers, (B,) each."""
    if not logits:
        return {}
    if backbone.exit_head is not None:
        names, confidence = MULTI_LABEL_CONFIDENCES, multi_label_confidence
    else:
        names, confidence = SOFTMAX_CONFIDENCES, softmax_confidence
    return {
        f'kinds/{kind}': confidence(logits[0], kind).double().tolist()
        for kind in names
    }


def _prefixed(prefix: str, columns: dict[str, list]) -> dict[str, list]:
    return {f'{prefix}{name}': values for name, values in columns.items()}


@contextmanager
def _exit_logits(backbone: nn.Module) -> Iterator[list[Tensor]]:
    """Note what the deciding head predicts, (B, C) each call.

    The gate's call comes first; a classifier calls its head once more.
    """
    logits: list[Tensor] = []

    def note(_: nn.Module, __: tuple, output: Tensor) -> None:
        logits.append(output)

    handle = backbone.gate.head.register_forward_hook(note)
    try:
        yield logits
    finally:
        handle.remove()


def _run(
    model: nn.Module,
    backbone: nn.Module,
    batch: Any,
    score: ImageScore,
    counter: SharedCostCounter,
) -> dict[str, Any]:
    """Predict one batch at the threshold that is set."""
    counter.reset()
    backbone.exit_records = []
    samples = model.test_step(batch)
    records = backbone.exit_records
    if len(records) != 1 or len(records[0].exited) != len(samples):
        raise RuntimeError(
            f'a sweep needs one forward an image, but {len(samples)} images '
            f'took {len(records)} forwards: sliding windows or test-time '
            'augmentation. Use test_cfg=dict(mode="whole") without TTA, or '
            'evaluate each threshold with tools/test.py --exit-threshold'
        )
    return {
        'names': _names(samples),
        'record': records[0],
        **_scored(samples, score),
        'outside': counter.per_image(len(samples)),
    }


def _scored(samples: list, score: ImageScore) -> dict[str, Any]:
    """Statistics, and the details of truth and prediction by name."""
    described = [score.describe(sample) for sample in samples]
    truth, predicted = (
        {name: [entry[part][name] for entry in described] for name in first}
        for part, first in enumerate(described[0])
    )
    return {
        'statistics': [score.measure(sample) for sample in samples],
        'details': truth,
        'prediction': predicted,
    }


def _run_single(
    model: nn.Module,
    backbone: nn.Module,
    batch: Any,
    score: ImageScore,
    counter: SharedCostCounter,
    convention: str,
) -> dict[str, list]:
    """Predict one batch with a backbone that cannot exit."""
    counter.reset()
    with record_patch_grids(backbone) as grids:
        samples = model.test_step(batch)
    number = len(samples)
    macs = sum(stage_costs(backbone, grid, convention).full for grid in grids)
    tokens = sum(height * width + 1 for height, width in grids)
    outside = counter.per_image(number)
    if pays_head_by_stage(backbone):
        macs, outside = macs + outside, 0.0
    scored = _scored(samples, score)
    return {
        **_prefixed('details/', scored['details']),
        **_prefixed('details/fine_', scored['prediction']),
        'names': _names(samples),
        'fine': scored['statistics'],
        'exit_tokens': number * [tokens],
        'full_tokens': number * [tokens],
        'exit_macs': number * [macs],
        'full_macs': number * [macs],
        'exit_shared': number * [outside],
        'full_shared': number * [outside],
    }


def _names(samples: list) -> list[str]:
    return [str(sample.metainfo.get('img_path', '')) for sample in samples]
