"""Images per second of real gated runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from mmengine.dataset import pseudo_collate
from torch import nn
from torch.utils.data import DataLoader

from mmscope.evaluation.exit_endpoints import evaluating
from mmscope.evaluation.interleaved_timing import Entry, time_interleaved
from mmscope.models import at_threshold, attach_gate, is_two_stage, observe
from mmscope.models.scoping import ExitRecord


def measure_throughput(
    model: nn.Module,
    dataloader: DataLoader,
    thresholds: Sequence[float | None],
    indices: Sequence[int],
    batch_sizes: Sequence[int] | None = None,
    repeats: int = 3,
) -> pd.DataFrame:
    """Time ``model.test_step`` at given thresholds.

    Images are loaded beforehand, so the time is that of the data
    preprocessor, the network and the post-processing. The thresholds take
    turns, see :func:`mmscope.evaluation.interleaved_timing.time_interleaved`.

    Args:
        model (nn.Module): Host model, on its device.
        dataloader (DataLoader): Of the test data.
        thresholds (Sequence[float | None]): Exit thresholds; None or NaN
            runs the model as it is, the only choice for one without a gate.
        indices (Sequence[int]): Images of the loader's data set to time, such
            as :func:`representative_images`.
        batch_sizes (Sequence[int] | None): None for 1 and the loader's own.
            One above the number of images that are timed is that number.
            Defaults to None.
        repeats (int): Repeats, of which the median counts. Defaults to 3.

    Returns:
        pd.DataFrame: One row a ``batch_size`` and ``threshold`` (NaN for
        None): ``images_per_s`` (median), ``slowest``, ``fastest``;
        ``exit_ratio`` of the timed images (NaN without a gate),
        ``num_images``, ``device``.

    Raises:
        ValueError: If there is no image, or a threshold is given for a model
            without early exit.
    """
    items = [dataloader.dataset[index] for index in indices]
    if not items:
        raise ValueError('there is no image to time')
    etas = [None if pd.isna(eta) else float(eta) for eta in thresholds]
    with evaluating(model) as backbone:
        if any(eta is not None for eta in etas):
            if not is_two_stage(model):
                raise ValueError(
                    f'{type(backbone).__name__} has no early exit; measure '
                    'it with thresholds=[None]'
                )
            attach_gate(model)
        wanted = batch_sizes or sorted({1, dataloader.batch_size})
        rows = [
            {'batch_size': size, **row}
            for size in dict.fromkeys(min(n, len(items)) for n in wanted)
            for row in _race(model, items, size, etas, repeats)
        ]
    device = device_name(next(model.parameters()).device)
    return pd.DataFrame(rows).assign(num_images=len(items), device=device)


def _race(
    model: nn.Module,
    items: list[Mapping[str, Any]],
    size: int,
    thresholds: Sequence[float | None],
    repeats: int,
) -> Iterator[dict[str, float]]:
    """Time all images at each threshold, so many in a batch."""
    batches = [
        pseudo_collate(items[i : i + size]) for i in range(0, len(items), size)
    ]
    decided: dict[float | None, list[ExitRecord]] = {}

    def run(eta: float | None) -> None:
        with _gated(model, eta) as decided[eta]:
            for batch in batches:
                model.test_step(batch)

    entries = {str(eta): Entry(lambda eta=eta: run(eta)) for eta in thresholds}
    device = next(model.parameters()).device
    timings = time_interleaved(entries, repeats, device, warm_up=1).timings
    for eta in thresholds:
        speeds = len(items) / timings[str(eta)].means
        yield {
            'threshold': np.nan if eta is None else eta,
            'images_per_s': np.median(speeds),
            'slowest': speeds.min(),
            'fastest': speeds.max(),
            'exit_ratio': _exit_ratio(decided[eta]),
        }


def _exit_ratio(records: Sequence[ExitRecord]) -> float:
    """Share of the images that exited; NaN where nobody was asked."""
    exited = [one for record in records for one in record.exited.tolist()]
    return float(np.mean(exited)) if exited else np.nan


@contextmanager
def _gated(
    model: nn.Module, threshold: float | None
) -> Iterator[list[ExitRecord]]:
    """Set a threshold, and see who exits; nobody does in a single stage."""
    with ExitStack() as stack:
        if threshold is not None:
            stack.enter_context(at_threshold(model, threshold))
        two_stage = is_two_stage(model)
        yield stack.enter_context(observe(model)) if two_stage else []


def representative_images(
    confidence: Sequence[float] | None, num_images: int, number: int
) -> list[int]:
    """Choose images that exit in about the proportion of the whole set.

    Neighbouring frames of a video exit together, so the first few images
    would be timed at another exit ratio than the curve says.

    Args:
        confidence (Sequence[float] | None): Of every image, (n,); None
            spreads the choice evenly over the data set.
        num_images (int): Images n of the data set.
        number (int): Images wanted.

    Returns:
        list[int]: At most ``number`` increasing indices, at evenly spaced
        ranks of the confidence.
    """
    order = np.arange(num_images)
    if confidence is not None:
        order = np.argsort(np.asarray(confidence), kind='stable')
    number = min(number, num_images)
    ranks = (np.arange(number) + 0.5) * num_images / number
    return sorted(order[ranks.astype(int)].tolist())


def device_name(device: torch.device) -> str:
    """Name a device: the GPU, or 'cpu' with the number of threads."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    number = torch.get_num_threads()
    return f'{device.type}, {number} thread{"s" if number > 1 else ""}'
