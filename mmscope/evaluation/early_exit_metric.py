"""How many images left early, and what the average image cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from mmscope.analysis import StageCosts
from mmscope.evaluation.image_costs import image_costs
from mmscope.evaluation.record_metric import ImageStatistics, RecordMetric
from mmscope.models.scoping import ExitRecord, TwoStage, is_two_stage
from mmscope.registry import METRICS


@dataclass
class ImageExits(ImageStatistics):
    """What the forwards (windows, views) of one image add up to.

    Args:
        exited (float): Fraction of the forwards. Defaults to 0.
        confidence (float | None): Mean over them; None without a gate.
            Defaults to None.
    """

    exited: float = 0.0
    confidence: float | None = None


@METRICS.register_module()
class EarlyExitMetric(RecordMetric):
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
    averages = {
        'exit_ratio': ('exited', 1.0),
        'mean_tokens': ('tokens', 1.0),
        'mean_cost': ('macs', 1e9),
    }
    hook = 'ConfidenceGateHook'
    decision = 'exit'

    def check_backbone(self, backbone: TwoStage) -> None:
        """Refuse, by ValueError, a backbone that has no early exit."""
        if not is_two_stage(backbone):
            raise ValueError(
                f'{type(backbone).__name__} has no early exit to measure; '
                'bind a two-stage backbone such as mmscope.MambaScope, or '
                'remove EarlyExitMetric'
            )

    def count_images(self, record: ExitRecord) -> int:
        """Count the images of one forward."""
        return len(record.exited)

    def summarise(
        self, records: Sequence[ExitRecord], num_images: int, outside: float
    ) -> list[ImageExits]:
        """Sum up exits and costs: image by image."""
        return image_exits(self.backbone, records, outside, self.convention)


def image_exits(
    backbone: TwoStage,
    records: Sequence[ExitRecord],
    outside: float,
    convention: str = 'paper',
) -> list[ImageExits]:
    """Sum up exits and costs of the forwards of one batch, image by image.

    ``outside`` are MACs an image of neck and heads.
    """
    costs = image_costs(backbone, records, outside, convention)
    forwards = [
        _summarise_forward(record, cost)
        for record, cost in zip(records, costs, strict=True)
    ]
    return [_summed(found) for found in zip(*forwards, strict=True)]


def _summarise_forward(
    record: ExitRecord, costs: Sequence[StageCosts]
) -> list[ImageExits]:
    """Read one forward, with few waits for the device: image by image."""
    exited, added = record.exited.tolist(), record.added_tokens.tolist()
    sure: list = [None] * len(exited)
    if record.confidence is not None:
        sure = record.confidence.float().tolist()
    return [
        ImageExits(
            tokens=record.coarse_tokens + (0 if gone else more),
            macs=cost.exited if gone else cost.full,
            exited=float(gone),
            confidence=confidence,
        )
        for gone, more, confidence, cost in zip(
            exited, added, sure, costs, strict=True
        )
    ]


def _summed(forwards: Sequence[ImageExits]) -> ImageExits:
    """Sum one image over its forwards, such as windows."""
    sure = [one.confidence for one in forwards]
    return ImageExits(
        tokens=sum(one.tokens for one in forwards),
        macs=sum(one.macs for one in forwards),
        exited=fmean(one.exited for one in forwards),
        confidence=None if None in sure else fmean(sure),
    )
