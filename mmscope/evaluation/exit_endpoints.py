"""Every image of a data set, predicted at both exits in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmscope.analysis import SharedCostCounter, observe_any, one_stage_macs
from mmscope.analysis.costs import direction_count
from mmscope.evaluation.endpoint_images import BothEnds
from mmscope.evaluation.gated_scores import STAGES, ImageScore
from mmscope.evaluation.image_costs import image_costs, pays_head_by_stage
from mmscope.evaluation.variants import Variant, check_variants
from mmscope.models import (
    TokenBackbone,
    at_threshold,
    attach_gate,
    is_two_stage,
)
from mmscope.models.layers import Record, unwrap_model
from mmscope.models.scoping import (
    ExitRecord,
    Gate,
    WrappedGate,
    decided_by,
)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[TokenBackbone]:
    """Put a model in evaluation mode, without gradients, for a while.

    Args:
        model (nn.Module): Host model.

    Yields:
        TokenBackbone: Its backbone.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield unwrap_model(model).backbone
    finally:
        model.train(training)


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
    return score_variants(model, dataloader, score, [Variant()], convention)[0]


def score_variants(
    model: nn.Module,
    dataloader: Iterable,
    score: ImageScore,
    variants: Sequence[Variant],
    convention: str = 'paper',
) -> list[BothEnds]:
    """The same with several settings, in one pass over the data.

    Args:
        model (nn.Module): Host model; it is left as it was.
        dataloader (Iterable): Test batches.
        score (ImageScore): Task score.
        variants (Sequence[Variant]): Settings of each.
        convention (str): How MACs are counted. Defaults to 'paper'.

    Returns:
        list[BothEnds]: One a variant.

    Raises:
        ValueError: If there is no image, the convention is unknown, or the
            backbone refuses a setting.
        RuntimeError: See :func:`sweep`.
    """
    direction_count(convention)
    check_variants(model, variants)
    columns: list[dict[str, list]] = [{} for _ in variants]
    run = _run_gated if is_two_stage(model) else _run_single
    host = unwrap_model(model)
    counting = SharedCostCounter(host, host.backbone)
    with evaluating(model), counting as counter:
        for batch in dataloader:
            for variant, found in zip(variants, columns, strict=True):
                with variant.applied(model):
                    new = run(model, batch, score, counter, convention)
                for name, values in new.items():
                    found.setdefault(name, []).extend(values)
    if not all(columns):
        raise ValueError('the data loader gave no batch to evaluate')
    return [_put_together(found, score) for found in columns]


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
    batch: Any,
    score: ImageScore,
    counter: SharedCostCounter,
    convention: str,
) -> dict[str, list]:
    """Predict one batch at both ends."""
    backbone = attach_gate(model)
    backbone.gate.check_trained()
    # Both runs write into the same data samples: measure in between.
    gate = AllKinds(backbone.gate)
    with at_threshold(model, 0.0), decided_by(backbone, gate):
        exited, first = _run_once(model, batch, score, counter)
    with at_threshold(model, None):
        full, record = _run_once(model, batch, score, counter)
    (costs,) = image_costs(backbone, [record], full['outside'], convention)
    (short,) = image_costs(backbone, [first], exited['outside'], convention)
    tokens, number = record.coarse_tokens, len(full['names'])
    return {
        **_prefixed('kinds/', gate.found),
        **_prefixed('details/', exited['details']),
        **_prefixed('details/coarse_', exited['prediction']),
        **_prefixed('details/fine_', full['prediction']),
        'names': exited['names'],
        'confidence': first.confidence.double().tolist(),
        'coarse': exited['statistics'],
        'fine': full['statistics'],
        'exit_tokens': number * [tokens],
        'full_tokens': (tokens + record.added_tokens).tolist(),
        'exit_macs': [cost.exited - cost.shared for cost in costs],
        'full_macs': [cost.full - cost.shared for cost in costs],
        'exit_shared': [cost.shared for cost in short],
        'full_shared': [cost.shared for cost in costs],
    }


class AllKinds(WrappedGate):
    """Decides as the model's own gate, and notes what others would say.

    Args:
        gate (Gate): The model's own.
    """

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate)
        self.found: dict[str, list[float]] = {}

    def confidence(self, cls: Tensor, tokens: Tensor) -> Tensor:
        """Judge by every kind that the head offers, all at one temperature.

        Args:
            cls (Tensor): Coarse cls tokens, (B, D).
            tokens (Tensor): Coarse patch tokens, (B, n, D).

        Returns:
            Tensor: Of the kind that decides, (B,); ``found`` has all.
        """
        found = self.judge(cls, tokens, self.kinds)
        self.found = {
            kind: values.double().tolist() for kind, values in found.items()
        }
        return found[self.kind]


def _prefixed(prefix: str, columns: dict[str, list]) -> dict[str, list]:
    return {f'{prefix}{name}': values for name, values in columns.items()}


def _run_once(
    model: nn.Module, batch: Any, score: ImageScore, counter: SharedCostCounter
) -> tuple[dict[str, Any], ExitRecord]:
    """Predict one batch in one forward, and give its exit record."""
    found, records = _run(model, batch, score, counter)
    number = len(found['names'])
    if len(records) != 1 or len(records[0].exited) != number:
        raise RuntimeError(
            f'a sweep needs one forward an image, but {number} images '
            f'took {len(records)} forwards: sliding windows or test-time '
            'augmentation. Use test_cfg=dict(mode="whole") without TTA, or '
            'evaluate each threshold with tools/test.py --exit-threshold'
        )
    return found, records[0]


def _run(
    model: nn.Module, batch: Any, score: ImageScore, counter: SharedCostCounter
) -> tuple[dict[str, Any], list[Record]]:
    """Predict one batch, and give the records of its forwards."""
    counter.reset()
    with observe_any(model) as records:
        samples = model.test_step(batch)
    found = {
        'names': [str(s.metainfo.get('img_path', '')) for s in samples],
        **_scored(samples, score),
        'outside': counter.per_image(len(samples)),
    }
    return found, records


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
    batch: Any,
    score: ImageScore,
    counter: SharedCostCounter,
    convention: str,
) -> dict[str, list]:
    """Predict one batch with a backbone that cannot exit."""
    backbone = unwrap_model(model).backbone
    found, records = _run(model, batch, score, counter)
    number, outside = len(found['names']), found['outside']
    tokens = sum(sum(r.lengths) / len(r.lengths) for r in records)
    macs = sum(
        one_stage_macs(backbone, record, number, convention)
        for record in records
    )
    if pays_head_by_stage(backbone):
        macs, outside = macs + outside, 0.0
    return {
        **_prefixed('details/', found['details']),
        **_prefixed('details/fine_', found['prediction']),
        'names': found['names'],
        'fine': found['statistics'],
        'exit_tokens': number * [tokens],
        'full_tokens': number * [tokens],
        'exit_macs': macs.tolist(),
        'full_macs': macs.tolist(),
        'exit_shared': number * [outside],
        'full_shared': number * [outside],
    }
