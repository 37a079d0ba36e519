"""The whole threshold curve from one pass over a data set."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mmscope.analysis.costs import is_two_stage
from mmscope.evaluation.both_ends import score_both_ends
from mmscope.evaluation.classification import (
    ClassificationScore,
    confidence_bins,
)
from mmscope.evaluation.curves import (
    BothEnds,
    compare_kinds,
    confidence_quality,
    curve_rows,
    extra_scores,
    image_gains,
    mean_costs,
    order_quality,
    plain,
    quantile_thresholds,
)
from mmscope.evaluation.scores import ImageScore
from mmscope.evaluation.tables import Column, format_table
from mmscope.evaluation.tasks import default_score
from mmscope.models.scoping import check_threshold, unwrap_model


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
            ``confidence_quality``, ``kinds`` of ``compare_kinds``, ``bins``
            of ``confidence_bins`` for a classifier. Empty without a gate.
        images (list[dict]): Name, confidence and per-image scores; a
            classifier's label and predictions.
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
        content = self.to_dict()
        images = [
            json.dumps(image, allow_nan=False)
            for image in content.pop('images')
        ]
        text = json.dumps(content, indent=1, allow_nan=False)
        # A line an image: there may be fifty thousand of them.
        lines = ',\n  '.join(images)
        text = text[: -len('\n}')] + f',\n "images": [\n  {lines}\n ]\n}}'
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
    # One number an image and model: a classifier has nothing but its head
    # outside the backbone, and who exits is right or wrong.
    classifier = score == ClassificationScore.name
    parts = [
        Column('exited', 'of those who exit', '.2f'),
        Column('refined', 'of those who go on', '.2f'),
    ]
    backbone = Column('backbone_cost', 'backbone GMACs', '.3f')
    return [
        Column('threshold', 'threshold', '.6g'),
        Column('exit_ratio', 'exit ratio', '.3f'),
        Column(score, score, '.2f'),
        Column('top5', 'top5', '.2f'),
        *(parts if classifier else []),
        Column('ece', 'ECE', '.2f'),
        Column('random', 'random exits', '.2f', std='random_std'),
        Column('oracle', 'oracle', '.2f'),
        Column('mean_tokens', 'mean tokens', '.1f'),
        *([] if classifier else [backbone]),
        Column('mean_cost', 'mean GMACs', '.5f' if classifier else '.3f'),
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
    thresholds: Sequence[float] = (),
) -> SweepResult:
    """Evaluate every threshold in one pass over the data.

    Args:
        model (nn.Module): Host model with weights, on its device.
        dataloader (Iterable): Test batches for ``model.test_step``.
        num_quantiles (int): Thresholds between all exit and nobody.
            Defaults to 9.
        score (ImageScore | None): Task score; None for
            :func:`default_score`. Defaults to None.
        convention (str): How MACs are counted. Defaults to 'paper'.
        num_draws (int): Random exits to compare with. Defaults to 50.
        seed (int): Seed of the random exits. Defaults to 0.
        thresholds (Sequence[float]): Thresholds wanted beside the quantiles.
            Defaults to none.

    Returns:
        SweepResult: The curve, or one row for a model without early exit.

    Raises:
        ValueError: If the data set is empty or has no ground truth, or a
            threshold is invalid or given for a model without early exit.
        RuntimeError: If an image takes more than one forward (sliding
            windows, test-time augmentation), or the exit head was never
            trained.
    """
    wanted = check_thresholds(model, thresholds)
    score = score or default_score(model, dataloader)
    ends = score_both_ends(model, dataloader, score, convention)
    return sweep_ends(
        ends, score, num_quantiles, convention, num_draws, seed, wanted
    )


def sweep_ends(
    ends: BothEnds,
    score: ImageScore,
    num_quantiles: int = 9,
    convention: str = 'paper',
    num_draws: int = 50,
    seed: int = 0,
    thresholds: Sequence[float] = (),
) -> SweepResult:
    """Evaluate every threshold on images that are scored at both exits.

    Args:
        ends (BothEnds): The images.
        score (ImageScore): The score that they have.
        num_quantiles (int): As for :func:`sweep`. Defaults to 9.
        convention (str): How the MACs were counted. Defaults to 'paper'.
        num_draws (int): As for :func:`sweep`. Defaults to 50.
        seed (int): As for :func:`sweep`. Defaults to 0.
        thresholds (Sequence[float]): As for :func:`sweep`. Defaults to none.

    Returns:
        SweepResult: The curve, or one row for a model without early exit.
    """
    images = _image_rows(ends, score)
    if ends.confidence is None:
        row = _single_row(ends, score)
        return SweepResult(score.name, convention, [row], {}, images)
    quantiles = quantile_thresholds(ends.confidence, num_quantiles)
    steps = sorted({*quantiles, *thresholds})
    rows = curve_rows(ends, score, steps, num_draws, seed)
    quality = {
        'order_quality': order_quality(rows, score.name),
        'scores': confidence_quality(ends, score),
        'kinds': compare_kinds(ends, score, num_draws, seed),
    }
    if isinstance(score, ClassificationScore):
        stages = (
            score.total(statistics) for statistics in (ends.coarse, ends.fine)
        )
        quality['bins'] = confidence_bins(ends.confidence, *stages)
    return SweepResult(score.name, convention, rows, quality, images)


def check_thresholds(
    model: nn.Module, thresholds: Sequence[float]
) -> list[float]:
    """Check thresholds that a user wants to see.

    Args:
        model (nn.Module): Host model.
        thresholds (Sequence[float]): The thresholds.

    Returns:
        list[float]: The same as floats.

    Raises:
        ValueError: If one is no number >= 0, or the model cannot exit.
    """
    backbone = unwrap_model(model).backbone
    if thresholds and not is_two_stage(backbone):
        raise ValueError(
            f'thresholds {list(thresholds)} are given, but '
            f'{type(backbone).__name__} has no early exit: leave them out'
        )
    if any(threshold is None for threshold in thresholds):
        raise ValueError(f'a threshold is missing in {list(thresholds)}')
    return [check_threshold(threshold) for threshold in thresholds]


def _single_row(ends: BothEnds, score: ImageScore) -> dict:
    total = ends.fine.sum(0)
    return {
        'threshold': None,
        'exit_ratio': 0.0,
        score.name: plain(score.total(total)),
        **extra_scores(score, total),
        'mean_tokens': float(ends.full_tokens.mean()),
        **mean_costs(ends, np.zeros(len(ends.names), dtype=bool)),
    }


def _image_rows(ends: BothEnds, score: ImageScore) -> list[dict]:
    columns = {'fine': score.per_image(ends.fine)}
    if ends.coarse is not None:
        columns['coarse'] = score.per_image(ends.coarse)
        columns['gain'] = image_gains(ends, score)
    rows = []
    details = {name: col.tolist() for name, col in ends.details.items()}
    for index, name in enumerate(_short_names(ends.names)):
        row: dict[str, Any] = {'name': name}
        if ends.confidence is not None:
            row['confidence'] = float(ends.confidence[index])
        row.update({key: column[index] for key, column in details.items()})
        for stage, scores in columns.items():
            for key, values in scores.items():
                row[f'{stage}_{key}'] = plain(values[index])
        rows.append(row)
    return rows


def _short_names(names: list[str]) -> list[str]:
    """File names, with their folder where it tells images apart."""
    paths = [Path(name) for name in names]
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    return [str(Path(path.parent.name) / path.name) for path in paths]
