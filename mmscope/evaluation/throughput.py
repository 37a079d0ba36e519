"""Images per second of real gated runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice

import torch
from torch import nn

from mmscope.evaluation.exit_endpoints import evaluating
from mmscope.models import at_threshold, attach_gate, is_two_stage, observe
from mmscope.models.scoping import ExitRecord


def measure_throughput(
    model: nn.Module,
    dataloader: Iterable,
    thresholds: Sequence[float | None],
    batch_sizes: Sequence[int] | None = None,
    max_images: int = 32,
    warmup: int = 2,
    repeats: int = 3,
    indices: Sequence[int] | None = None,
) -> list[dict]:
    """Time ``model.test_step`` at given thresholds.

    Images are loaded beforehand, so the time is that of the data
    preprocessor, the network and the post-processing. The thresholds take
    turns within each repeat, so that a machine which slows down meanwhile
    does not favour one of them.

    Args:
        model (nn.Module): Host model, on its device.
        dataloader (Iterable): Test batches, dicts of lists with one entry
            an image.
        thresholds (Sequence[float | None]): Exit thresholds; None runs the
            model as it is, the only choice for one without a gate.
        batch_sizes (Sequence[int] | None): None for 1 and the loader's own.
            Defaults to None.
        max_images (int): Images timed in each repeat. Defaults to 32.
        warmup (int): Batches run beforehand. Defaults to 2.
        repeats (int): Repeats, of which the median counts. Defaults to 3.
        indices (Sequence[int] | None): Images of the loader's data set to
            time, such as :func:`representative_images`; None takes the first
            ``max_images``. Defaults to None.

    Returns:
        list[dict]: ``threshold``, ``batch_size``, ``images_per_s`` (median),
        ``fastest``, ``slowest``, ``exit_ratio`` of the timed images (None
        without a gate), ``num_images``, ``device``.

    Raises:
        ValueError: If there is no image, or a threshold is given for a model
            without early exit.
    """
    items, own = _load(dataloader, max_images, indices)
    sizes = batch_sizes or sorted({1, own})
    with evaluating(model) as backbone:
        if any(threshold is not None for threshold in thresholds):
            if not is_two_stage(model):
                raise ValueError(
                    f'{type(backbone).__name__} has no early exit; measure '
                    'it with thresholds=[None]'
                )
            attach_gate(model)
        return [
            entry
            for size in sizes
            for entry in _measure(
                model,
                _regroup(items, size),
                size,
                thresholds,
                warmup,
                repeats,
            )
        ]


def _measure(
    model: nn.Module,
    batches: list[dict],
    size: int,
    thresholds: Sequence[float | None],
    warmup: int,
    repeats: int,
) -> list[dict]:
    device = next(model.parameters()).device
    number = sum(len(batch['inputs']) for batch in batches)
    speeds: list[list[float]] = [[] for _ in thresholds]
    ratios: list[float | None] = [None] * len(thresholds)
    for _ in range(repeats):
        for index, threshold in enumerate(thresholds):
            with _gated(model, threshold) as records:
                for batch in islice(batches, warmup):
                    model.test_step(batch)
                records.clear()
                seconds = _time(model, batches, device)
            speeds[index].append(number / seconds)
            ratios[index] = _exit_ratio(records)
    return [
        {
            'threshold': threshold,
            'batch_size': size,
            'images_per_s': statistics.median(speed),
            'slowest': min(speed),
            'fastest': max(speed),
            'exit_ratio': ratio,
            'num_images': number,
            'device': device_name(device),
        }
        for threshold, speed, ratio in zip(
            thresholds, speeds, ratios, strict=True
        )
    ]


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


def _time(
    model: nn.Module, batches: list[dict], device: torch.device
) -> float:
    _synchronize(device)
    start = time.perf_counter()
    for batch in batches:
        model.test_step(batch)
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def _exit_ratio(records: list[ExitRecord]) -> float | None:
    if not records:
        return None
    exited = torch.cat([record.exited for record in records])
    return float(exited.float().mean())


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
    order = list(range(num_images))
    if confidence is not None:
        order.sort(key=lambda index: confidence[index])
    number = min(number, num_images)
    ranks = [int((i + 0.5) * num_images / number) for i in range(number)]
    return sorted(order[rank] for rank in ranks)


def _load(
    dataloader: Iterable, max_images: int, indices: Sequence[int] | None
) -> tuple[list[dict], int]:
    """Load images one by one, and find the loader's batch size."""
    if indices is not None:
        items = [dataloader.dataset[index] for index in indices]
        return items, dataloader.batch_size
    items: list[dict] = []
    own = 0
    for batch in dataloader:
        number = len(batch['inputs'])
        own = own or number
        items += [
            {key: values[index] for key, values in batch.items()}
            for index in range(number)
        ]
        if len(items) >= max_images:
            break
    if not items:
        raise ValueError('the data loader gave no image to time')
    return items[:max_images], own


def _regroup(items: list[dict], size: int) -> list[dict]:
    groups = (items[i : i + size] for i in range(0, len(items), size))
    return [
        {key: [item[key] for item in group] for key in group[0]}
        for group in groups
    ]


def device_name(device: torch.device) -> str:
    """Name a device for a report.

    Args:
        device (torch.device): Where a model runs.

    Returns:
        str: The GPU's name, or 'cpu' with the number of threads.
    """
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    number = torch.get_num_threads()
    return f'{device.type}, {number} thread{"s" if number > 1 else ""}'
