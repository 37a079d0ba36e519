"""How much a token reduction saves, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mmscope.analysis import measured_macs, ran_directions
from mmscope.evaluation.record_metric import ImageStatistics, RecordMetric
from mmscope.models import TokenBackbone
from mmscope.models.layers import Record
from mmscope.registry import METRICS


@dataclass
class ImageReduction(ImageStatistics):
    """What the forwards (windows, views) of one image add up to.

    Args:
        directions (float): Mean over the blocks, of two. Defaults to 2.
    """

    directions: float = 2.0


@METRICS.register_module()
class TokenReductionMetric(RecordMetric):
    """Mean tokens, directions and cost of a model that reduces tokens.

    Statistics are per image: ``mean_tokens`` is the length of the sequence,
    summary tokens included, averaged over the blocks; ``mean_directions``
    counts the scan directions that a block ran, of two; ``mean_cost`` is in
    GMACs, with the lengths and directions that were measured, neck and heads
    included. Tokens and cost of a sliding window or a test-time view add up.
    ``TokenReductionHook`` adds and binds this metric by itself; name it in a
    config to choose the options::

        custom_hooks = [dict(type='mmscope.TokenReductionHook')]
        val_evaluator = [
            dict(type='Accuracy'),
            dict(type='mmscope.TokenReductionMetric', convention='paper'),
        ]

    Args:
        convention (str): How MACs are counted: 'exact' counts every
            direction that ran, 'paper' half of it. Defaults to 'exact'.
        dump_path (str | None): JSON file for the per-image results; they
            are also kept in ``last_results``. Defaults to None.
        **kwargs (Any): ``collect_device``, ``prefix`` and ``collect_dir``
            of mmengine's ``BaseMetric``.
    """

    default_prefix = 'token_reduction'
    averages = {
        'mean_tokens': ('tokens', 1.0),
        'mean_directions': ('directions', 1.0),
        'mean_cost': ('macs', 1e9),
    }
    hook = 'TokenReductionHook'
    decision = 'reduction'
    convention = 'exact'

    def check_backbone(self, backbone: TokenBackbone) -> None:
        """Refuse, by ValueError, a backbone without a token reduction."""
        if getattr(backbone, 'reduction', None) is None:
            raise ValueError(
                f'{type(backbone).__name__} reduces no tokens: give it '
                "reduction=dict(type='mmscope.DyVM') or another one, or "
                'remove TokenReductionMetric'
            )

    def count_images(self, record: Record) -> int | None:
        """Count the images of one forward; None where it does not say."""
        found = [x for x in record.directions if x is not None]
        for stage in record.reductions:
            found += [x for x in vars(stage).values() if x is not None]
        return len(found[0]) if found else None

    def summarise(
        self, records: Sequence[Record], num_images: int, outside: float
    ) -> list[ImageReduction]:
        """Sum up lengths, directions and costs."""
        tokens = sum(sum(r.lengths) / len(r.lengths) for r in records)
        runs = [ran_directions(record, num_images) for record in records]
        directions = torch.stack(runs).mean(0).tolist()
        macs = sum(
            measured_macs(self.backbone, record, run, self.convention)
            for record, run in zip(records, runs, strict=True)
        ).tolist()
        return [
            ImageReduction(
                tokens=tokens,
                macs=macs[row] + outside,
                directions=sum(directions[row]) / len(directions[row]),
            )
            for row in range(num_images)
        ]
