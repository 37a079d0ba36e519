"""The whole threshold curve from one pass over a data set."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmscope.analysis import SharedCostCounter, stage_costs
from mmscope.analysis.costs import direction_count, is_two_stage
from mmscope.analysis.model_costs import record_patch_grids
from mmscope.evaluation.curves import (
    NOBODY_EXITS,
    BothEnds,
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
from mmscope.models.scoping import attach_gate, unwrap_model


@dataclass
class SweepResult:
    """Accuracy and cost at every threshold.

    Args:
        score (str): Name of the data-set score, a key of the rows.
        convention (str): How MACs were counted.
        rows (list[dict]): One a threshold, from all exit to nobody; see
            :func:`mmscope.evaluation.curves.curve_rows`. A model without a
            gate has one row with threshold None.
        confidence (dict): See ``confidence_quality``; ``order_quality`` is
            0 for random exits and 1 for the oracle. Empty without a gate.
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
            writer = csv.DictWriter(file, list(self.rows[0]))
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
    quality = confidence_quality(ends, score)
    quality['order_quality'] = order_quality(rows, score.name)
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
    names = columns.pop('names')
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    missing = dict.fromkeys(('confidence', 'coarse'))
    return BothEnds(names=names, **{**missing, **arrays})


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
    exited = _run(model, backbone, batch, score, counter)
    attach_gate(model, NOBODY_EXITS)
    full = _run(model, backbone, batch, score, counter)
    record, number = full['record'], len(full['names'])
    costs = stage_costs(backbone, record.grid, convention)
    tokens = record.coarse_tokens
    return {
        'names': exited['names'],
        'confidence': exited['record'].confidence.double().tolist(),
        'coarse': exited['statistics'],
        'fine': full['statistics'],
        'exit_tokens': number * [tokens],
        'full_tokens': number * [tokens + record.fine_tokens],
        'exit_macs': number * [costs.exited],
        'full_macs': number * [costs.full],
        'shared_macs': number * [full['shared']],
    }


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
        'statistics': [score.measure(sample) for sample in samples],
        'shared': counter.per_image(len(samples)),
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
    return {
        'names': _names(samples),
        'fine': [score.measure(sample) for sample in samples],
        'exit_tokens': number * [tokens],
        'full_tokens': number * [tokens],
        'exit_macs': number * [macs],
        'full_macs': number * [macs],
        'shared_macs': number * [counter.per_image(number)],
    }


def _names(samples: list) -> list[str]:
    return [str(sample.metainfo.get('img_path', '')) for sample in samples]


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
