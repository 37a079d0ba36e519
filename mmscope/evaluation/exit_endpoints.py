"""Every image of a data set, predicted at both exits in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mmscope.analysis import SharedCostCounter, observe_any, one_stage_macs
from mmscope.analysis.costs import direction_count
from mmscope.evaluation.endpoint_images import EndpointImages
from mmscope.evaluation.gated_scores import ImageScore
from mmscope.evaluation.image_costs import image_costs, pays_head_by_stage
from mmscope.evaluation.variants import Variant, check_variants
from mmscope.models import (
    TokenBackbone,
    at_threshold,
    attach_gate,
    is_two_stage,
)
from mmscope.models.layers import Record, in_evaluation, unwrap_model
from mmscope.models.scoping import (
    ExitRecord,
    Gate,
    WrappedGate,
    decided_by,
)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[TokenBackbone]:
    """Evaluate a host model without gradients; give its backbone."""
    with torch.no_grad(), in_evaluation(model):
        yield unwrap_model(model).backbone


@dataclass
class _Run:
    """One batch, predicted at one exit."""

    # ``name``, and what the score describes of the truth.
    table: pd.DataFrame
    # What it describes of the predictions.
    predictions: pd.DataFrame
    statistics: list
    records: list[Record]
    # MACs an image of neck and heads.
    outside: float

    @property
    def record(self) -> ExitRecord:
        """Of the one forward that the batch took."""
        number = len(self.table)
        if len(self.records) != 1 or len(self.records[0].exited) != number:
            raise RuntimeError(
                f'a sweep needs one forward an image, but {number} images '
                f'took {len(self.records)} forwards: sliding windows or '
                'test-time augmentation. Use test_cfg=dict(mode="whole") '
                'without TTA, or evaluate each threshold with mmscope test '
                '--exit-threshold'
            )
        return self.records[0]


@dataclass
class _Batch:
    """One batch at both exits; see :class:`EndpointImages`."""

    table: pd.DataFrame
    kinds: pd.DataFrame
    coarse: list | None
    fine: list


def score_endpoints(
    model: nn.Module,
    dataloader: Iterable,
    score: ImageScore,
    convention: str = 'paper',
) -> EndpointImages:
    """Predict every image twice, as it is: see :func:`score_variants`."""
    return score_variants(model, dataloader, score, [Variant()], convention)[0]


def score_variants(
    model: nn.Module,
    dataloader: Iterable,
    score: ImageScore,
    variants: Sequence[Variant],
    convention: str = 'paper',
) -> list[EndpointImages]:
    """Predict every image twice a variant: all exit, nobody exits.

    Args:
        model (nn.Module): Host model; it is left as it was.
        dataloader (Iterable): Test batches.
        score (ImageScore): Task score.
        variants (Sequence[Variant]): Settings of each.
        convention (str): How MACs are counted. Defaults to 'paper'.

    Returns:
        list[EndpointImages]: One a variant, after one pass over the data. A
        backbone without early exit has neither confidence nor coarse
        statistics.

    Raises:
        ValueError: If there is no image, the convention is unknown, or the
            backbone refuses a setting.
        RuntimeError: See :func:`sweep`.
    """
    direction_count(convention)
    check_variants(model, variants)
    found: list[list[_Batch]] = [[] for _ in variants]
    predict = _predict_gated if is_two_stage(model) else _predict_single
    host = unwrap_model(model)
    counting = SharedCostCounter(host, host.backbone)
    with evaluating(model), counting as counter:
        for batch in dataloader:
            for variant, batches in zip(variants, found, strict=True):
                with variant.applied(model):
                    batches.append(
                        predict(model, batch, score, counter, convention)
                    )
    if not all(found):
        raise ValueError('the data loader gave no batch to evaluate')
    return [_join(batches, score) for batches in found]


def _join(batches: list[_Batch], score: ImageScore) -> EndpointImages:
    table, kinds = (
        pd.concat([getattr(one, part) for one in batches], ignore_index=True)
        for part in ('table', 'kinds')
    )
    coarse = None
    if batches[0].coarse is not None:
        coarse = [image for one in batches for image in one.coarse]
    fine = [image for one in batches for image in one.fine]
    return EndpointImages(table, score.gather(coarse, fine), kinds)


def _predict_gated(
    model: nn.Module,
    batch: Any,
    score: ImageScore,
    counter: SharedCostCounter,
    convention: str,
) -> _Batch:
    """Predict one batch at both exits."""
    backbone = attach_gate(model)
    backbone.gate.check_trained()
    # Both runs write into the same data samples: measure in between.
    gate = AllKinds(backbone.gate)
    with at_threshold(model, 0.0), decided_by(backbone, gate):
        exited = _run(model, batch, score, counter)
    with at_threshold(model, None):
        full = _run(model, batch, score, counter)
    (early,), (late,) = (
        image_costs(backbone, [run.record], run.outside, convention)
        for run in (exited, full)
    )
    tokens = full.record.coarse_tokens
    costs = pd.DataFrame(
        {
            'exit_tokens': tokens,
            'full_tokens': tokens + full.record.added_tokens.numpy(force=True),
            'exit_macs': [cost.exited - cost.shared for cost in late],
            'full_macs': [cost.full - cost.shared for cost in late],
            'exit_shared': [cost.shared for cost in early],
            'full_shared': [cost.shared for cost in late],
        }
    )
    confidence = exited.record.confidence.double().numpy(force=True)
    table = pd.concat(
        [
            exited.table.assign(confidence=confidence),
            exited.predictions.add_prefix('coarse_'),
            full.predictions.add_prefix('fine_'),
            costs,
        ],
        axis=1,
    )
    kinds = pd.DataFrame(gate.found)
    return _Batch(table, kinds, exited.statistics, full.statistics)


class AllKinds(WrappedGate):
    """Decides as the model's own gate, and notes what others would say."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate)
        self.found: dict[str, np.ndarray] = {}

    def confidence(self, cls: Tensor, tokens: Tensor) -> Tensor:
        """Judge (B, D) and (B, n, D) by every kind that was trained.

        ``found`` has them, the one that decides comes out, (B,).
        """
        kinds = [kind for kind in self.kinds if self.is_trained(kind)]
        found = self.judge(cls, tokens, kinds)
        self.found = {
            kind: values.double().numpy(force=True)
            for kind, values in found.items()
        }
        return found[self.kind]


def _run(
    model: nn.Module, batch: Any, score: ImageScore, counter: SharedCostCounter
) -> _Run:
    """Predict one batch as the model is."""
    counter.reset()
    with observe_any(model) as records:
        samples = model.test_step(batch)
    truth, predicted = zip(*map(score.describe, samples), strict=True)
    names = [str(s.metainfo.get('img_path', '')) for s in samples]
    table = pd.DataFrame(list(truth), index=range(len(names)))
    table.insert(0, 'name', names)
    return _Run(
        table,
        pd.DataFrame(list(predicted), index=table.index),
        [score.measure(sample) for sample in samples],
        records,
        counter.per_image(len(samples)),
    )


def _predict_single(
    model: nn.Module,
    batch: Any,
    score: ImageScore,
    counter: SharedCostCounter,
    convention: str,
) -> _Batch:
    """Predict one batch with a backbone that cannot exit."""
    backbone = unwrap_model(model).backbone
    run = _run(model, batch, score, counter)
    tokens = sum(sum(r.lengths) / len(r.lengths) for r in run.records)
    macs = sum(
        one_stage_macs(backbone, record, len(run.table), convention)
        for record in run.records
    )
    outside = run.outside
    if pays_head_by_stage(backbone):
        macs, outside = macs + outside, 0.0
    table = run.table.join(run.predictions.add_prefix('fine_'))
    parts = {'tokens': tokens, 'macs': macs.numpy(), 'shared': outside}
    for part, values in parts.items():
        table[f'exit_{part}'] = table[f'full_{part}'] = values
    return _Batch(table, pd.DataFrame(), None, run.statistics)
