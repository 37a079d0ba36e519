"""The whole threshold curve from one pass over a data set."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mmscope.evaluation.both_ends import score_both_ends
from mmscope.evaluation.curves import (
    BothEnds,
    compare_kinds,
    confidence_quality,
    curve_rows,
    image_gains,
    mean_costs,
    order_quality,
    plain,
    quantile_thresholds,
)
from mmscope.evaluation.scores import ImageScore, SegmentationScore
from mmscope.evaluation.tables import Column, format_table


@dataclass
class SweepResult:
    """Accuracy and cost at every threshold.

    Args:
        score (str): Name of the data-set score, a key of the rows.
        convention (str): How MACs were counted.
        rows (list[dict]): One a threshold, from all exit to nobody; see
            :func:`mmscope.evaluation.curves.curve_rows`. A model without a
            gate has one row with threshold None.
        confidence (dict): What the confidence knows: ``order_quality`` is 0
            for random exits and 1 for the oracle, ``scores`` is of
            ``confidence_quality``, ``kinds`` of ``compare_kinds``. Empty
            without a gate.
        images (list[dict]): Name, confidence and per-image scores.
        throughput (list[dict]): See ``measure_throughput``. Defaults to [].
        meta (dict): Config, checkpoint, split and so on. Defaults to {}.
    """

    score: str
    convention: str
    rows: list[dict]
    confidence: dict
    images: list[dict]
    throughput: list[dict] = field(default_factory=list)
    meta: dict = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Give everything as plain numbers, lists and dicts."""
        return asdict(self)

    def to_json(self, path: str | Path | None = None) -> str:
        """Write JSON.

        Args:
            path (str | Path | None): File; None writes none. Defaults to
                None.

        Returns:
            str: The JSON text.
        """
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text + '\n')
        return text

    @classmethod
    def read(cls, path: str | Path) -> SweepResult:
        """Read what :meth:`to_json` wrote.

        Args:
            path (str | Path): JSON file.

        Returns:
            SweepResult: The sweep.

        Raises:
            ValueError: If the file is missing or holds something else.
        """
        try:
            return cls(**json.loads(Path(path).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f'{path} is not the JSON of a sweep (write one with '
                f'tools/analysis_tools/sweep_threshold.py): {error}'
            ) from error

    def to_csv(self, path: str | Path) -> None:
        """Write the rows as CSV.

        Args:
            path (str | Path): File.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, 'w', newline='') as file:
            keys = dict.fromkeys(key for row in self.rows for key in row)
            writer = csv.DictWriter(file, list(keys))
            writer.writeheader()
            writer.writerows(self.rows)

    def table(self) -> str:
        """Format the rows as an aligned Markdown table."""
        return format_table(self.rows, sweep_columns(self.score))

    def add_throughput(self, measured: list[dict]) -> None:
        """Enter measured speeds in the rows of the same threshold.

        Args:
            measured (list[dict]): Output of ``measure_throughput``. The
                rows get ``images_per_s`` of the smallest batch size; all
                of it is kept in ``throughput``.
        """
        self.throughput = measured
        for entry in sorted(measured, key=lambda m: -m['batch_size']):
            for row in self.rows:
                if row['threshold'] == entry['threshold']:
                    row['images_per_s'] = entry['images_per_s']


def sweep_columns(score: str) -> list[Column]:
    """List the columns of the printed table.

    Args:
        score (str): Name of the data-set score.

    Returns:
        list[Column]: Columns.
    """
    return [
        Column('threshold', 'threshold', '.6g'),
        Column('exit_ratio', 'exit ratio', '.3f'),
        Column(score, score, '.2f'),
        Column('random', 'random exits', '.2f', std='random_std'),
        Column('oracle', 'oracle', '.2f'),
        Column('mean_tokens', 'mean tokens', '.1f'),
        Column('backbone_cost', 'backbone GMACs', '.3f'),
        Column('mean_cost', 'mean GMACs', '.3f'),
        Column('images_per_s', 'images/s', '.2f'),
    ]


def sweep(
    model: nn.Module,
    dataloader: Iterable,
    num_quantiles: int = 9,
    score: ImageScore | None = None,
    convention: str = 'paper',
    num_draws: int = 50,
    seed: int = 0,
) -> SweepResult:
    """Evaluate every threshold in one pass over the data.

    Args:
        model (nn.Module): Host model with weights, on its device.
        dataloader (Iterable): Test batches for ``model.test_step``.
        num_quantiles (int): Thresholds between all exit and nobody.
            Defaults to 9.
        score (ImageScore | None): Task score; None for mIoU over the classes
            of the data set. Defaults to None.
        convention (str): How MACs are counted. Defaults to 'paper'.
        num_draws (int): Random exits to compare with. Defaults to 50.
        seed (int): Seed of the random exits. Defaults to 0.

    Returns:
        SweepResult: The curve, or one row for a model without early exit.

    Raises:
        ValueError: If the data set is empty or has no ground truth.
        RuntimeError: If an image takes more than one forward (sliding
            windows, test-time augmentation), or the exit head was never
            trained.
    """
    score = score or segmentation_score(dataloader)
    ends = score_both_ends(model, dataloader, score, convention)
    if ends.confidence is None:
        return SweepResult(
            score.name,
            convention,
            [_single_row(ends, score)],
            {},
            _image_rows(ends, score),
        )
    thresholds = quantile_thresholds(ends.confidence, num_quantiles)
    rows = curve_rows(ends, score, thresholds, num_draws, seed)
    quality = {
        'order_quality': order_quality(rows, score.name),
        'scores': confidence_quality(ends, score),
        'kinds': compare_kinds(ends, score, num_draws, seed),
    }
    return SweepResult(
        score.name, convention, rows, quality, _image_rows(ends, score)
    )


def segmentation_score(dataloader: Iterable) -> SegmentationScore:
    """Make the mIoU over a data set's classes.

    Args:
        dataloader (Iterable): Loader of an mmseg data set.

    Returns:
        SegmentationScore: With the ignore index of the data set.

    Raises:
        ValueError: If the data set names no classes.
    """
    dataset = getattr(dataloader, 'dataset', None)
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if not classes:
        raise ValueError(
            'the data set of this loader names no classes in its metainfo; '
            'pass score=SegmentationScore(num_classes)'
        )
    ignore = getattr(dataset, 'ignore_index', 255)
    return SegmentationScore(len(classes), ignore)


def _single_row(ends: BothEnds, score: ImageScore) -> dict:
    return {
        'threshold': None,
        'exit_ratio': 0.0,
        score.name: plain(score.total(ends.fine.sum(0))),
        'mean_tokens': float(ends.full_tokens.mean()),
        **mean_costs(ends, np.zeros(len(ends.names), dtype=bool)),
    }


def _image_rows(ends: BothEnds, score: ImageScore) -> list[dict]:
    columns = {'fine': score.per_image(ends.fine)}
    if ends.coarse is not None:
        columns['coarse'] = score.per_image(ends.coarse)
        columns['gain'] = image_gains(ends, score)
    rows = []
    for index, name in enumerate(ends.names):
        row: dict[str, Any] = {'name': Path(name).name}
        if ends.confidence is not None:
            row['confidence'] = float(ends.confidence[index])
        for stage, scores in columns.items():
            for key, values in scores.items():
                row[f'{stage}_{key}'] = plain(values[index])
        rows.append(row)
    return rows
