"""How many images left early, and what the average image cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.fileio import dump
from torch import Tensor

from mmscope.analysis import SharedCostCounter, StageCosts
from mmscope.analysis.costs import direction_count
from mmscope.evaluation.image_costs import image_costs
from mmscope.models.scoping import ExitRecord, TwoStage, is_two_stage
from mmscope.registry import METRICS


@METRICS.register_module()
class EarlyExitMetric(BaseMetric):
    """Exit ratio, mean tokens and mean cost of a gated model.

    Statistics are per image. A sliding window or a test-time view is a
    forward of its own, so an image's tokens and cost are the sums over its
    windows and views, and it counts as exited with the fraction of them that
    did. ``ConfidenceGateHook`` adds and binds this metric by itself; name it
    in a config to choose the options::

        custom_hooks = [dict(type='mmscope.ConfidenceGateHook')]
        val_evaluator = [
            dict(type='IoUMetric', iou_metrics=['mIoU']),
            dict(type='mmscope.EarlyExitMetric', convention='exact'),
        ]

    Args:
        convention (str): How MACs are counted, 'paper' (one scan direction)
            or 'exact' (both). Defaults to 'paper'.
        dump_path (str | None): JSON file for the per-image results; they
            are also kept in ``last_results``. Defaults to None.
        **kwargs (Any): ``collect_device``, ``prefix`` and ``collect_dir``
            of mmengine's ``BaseMetric``.
    """

    default_prefix = 'early_exit'

    def __init__(
        self,
        convention: str = 'paper',
        dump_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        direction_count(convention)
        self.convention = convention
        self.dump_path = dump_path
        self.last_results: list[dict] | None = None
        self._backbone: TwoStage | None = None
        self._shared: SharedCostCounter | None = None
        self._records: list[ExitRecord] | None = None

    def bind(
        self,
        backbone: TwoStage,
        shared_counter: SharedCostCounter | None = None,
        records: list[ExitRecord] | None = None,
    ) -> None:
        """Read the exits of this backbone from now on.

        Whoever binds the metric observes the model meanwhile::

            with observe(model) as records:
                metric.bind(model.backbone, records=records)
                for batch in loader:
                    metric.process(batch, predict(model, batch))

        Args:
            backbone (TwoStage): Two-stage backbone of the model.
            shared_counter (SharedCostCounter | None): Counts neck and heads.
                None leaves them out of the cost. Defaults to None.
            records (list[ExitRecord] | None): Of an open ``observe``; the
                metric takes out what it has counted. Defaults to None, with
                which there is nothing to count.

        Raises:
            ValueError: If the backbone has no early exit.
        """
        if not is_two_stage(backbone):
            raise ValueError(
                f'{type(backbone).__name__} has no early exit to measure; '
                'bind a two-stage backbone such as mmscope.MambaScope, or '
                'remove EarlyExitMetric'
            )
        self._backbone, self._shared = backbone, shared_counter
        self._records = records
        if records is not None:
            records.clear()
        if shared_counter is not None:
            shared_counter.reset()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Sum up the exit records of one batch, image by image.

        Args:
            data_batch (Any): Ignored.
            data_samples (Sequence[dict]): Predictions, one an image; only
                their number and ``img_path`` are used.

        Raises:
            RuntimeError: If nothing is bound, or the records do not belong
                to these images.
        """
        num_images = len(data_samples)
        records = self._take_records(num_images)
        shared = 0.0
        if self._shared is not None:
            shared = self._shared.per_image(num_images)
            self._shared.reset()
        costs = image_costs(self._backbone, records, shared, self.convention)
        for row, sample in enumerate(data_samples):
            result = summarise_image(records, costs, row)
            result['img_path'] = sample.get('img_path')
            self.results.append(result)

    def _take_records(self, num_images: int) -> list[ExitRecord]:
        if self._records is None:
            raise RuntimeError(
                'EarlyExitMetric is bound to no records of exits; add '
                "dict(type='mmscope.ConfidenceGateHook') to custom_hooks, or "
                'call metric.bind(model.backbone, records=records) inside '
                '`with mmscope.models.observe(model) as records:`'
            )
        records = list(self._records)
        self._records.clear()
        if not records:
            raise RuntimeError(
                'the backbone recorded no exit for this batch: the model is '
                'not observed any more, another one was evaluated, or a '
                'second EarlyExitMetric took the records; bind one '
                'EarlyExitMetric to the evaluated model'
            )
        rows = [len(record.exited) for record in records]
        if any(count != num_images for count in rows):
            raise RuntimeError(
                f'the exit records have {rows} images, the batch has '
                f'{num_images}: the model ran on something else in between; '
                'bind the metric again before evaluating'
            )
        return records

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Average over the images of all processes.

        Args:
            results (list[dict]): Per-image results, duplicates removed.

        Returns:
            dict[str, float]: ``exit_ratio`` in [0, 1], ``mean_tokens``, and
            ``mean_cost`` in GMACs.
        """
        self.last_results = results
        if self.dump_path is not None:
            Path(self.dump_path).parent.mkdir(parents=True, exist_ok=True)
            dump(results, self.dump_path, file_format='json')

        def mean(key: str) -> float:
            return math.fsum(r[key] for r in results) / len(results)

        return {
            'exit_ratio': mean('exited'),
            'mean_tokens': mean('tokens'),
            'mean_cost': mean('macs') / 1e9,
        }


def summarise_image(
    records: Sequence[ExitRecord],
    costs: Sequence[Sequence[StageCosts]],
    row: int,
) -> dict[str, Any]:
    """Sum one image over its forwards (windows, views).

    Args:
        records (Sequence[ExitRecord]): One a forward.
        costs (Sequence[Sequence[StageCosts]]): Of each forward, one an
            image.
        row (int): Place of the image in the batch.

    Returns:
        dict[str, Any]: ``exited`` (fraction of the forwards), ``confidence``
        (mean, None without a gate), ``tokens`` and ``macs`` (sums).
    """
    exits = [bool(record.exited[row]) for record in records]
    tokens = sum(
        record.coarse_tokens + (0 if gone else int(record.added_tokens[row]))
        for record, gone in zip(records, exits, strict=True)
    )
    macs = sum(
        cost[row].exited if gone else cost[row].full
        for cost, gone in zip(costs, exits, strict=True)
    )
    return {
        'exited': sum(exits) / len(exits),
        'confidence': _mean_confidence([r.confidence for r in records], row),
        'tokens': tokens,
        'macs': macs,
    }


def _mean_confidence(
    confidences: Sequence[Tensor | None], row: int
) -> float | None:
    if any(confidence is None for confidence in confidences):
        return None
    rows = torch.stack([confidence[row].float() for confidence in confidences])
    return float(rows.mean())
