"""Cells of architecture, batch and resolution, each within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from mmscope.benchmark.grid_rows import (
    Cell,
    Grid,
    GridRow,
    Skipped,
    add_predictions,
)
from mmscope.benchmark.memory import (
    free_bytes,
    out_of_memory,
    peak_growth,
)
from mmscope.benchmark.subjects import Subject, Subjects
from mmscope.evaluation.interleaved_timing import (
    MIN_ROUNDS,
    WARM_UP,
    Run,
    over_budget,
    stopwatch,
    time_interleaved,
)

MIB, GIB = 2**20, 2**30
# Step from one trial batch to the next: larger batches may cost less.
GROWTH = 8


@dataclass(frozen=True)
class Limits:
    """How long and how large the cells may be, and how often they are timed.

    Args:
        device (torch.device): Where everything runs.
        repeats (int): Timed rounds of each cell.
        budget_s (float): Wall-clock seconds of each cell, see
            :func:`time_interleaved`. Defaults to 60.
        budget_gib (float | None): Memory of one forward beside the weights;
            None for seven tenths of what is free. Defaults to None.
    """

    device: torch.device
    repeats: int
    budget_s: float = 60.0
    budget_gib: float | None = None

    @property
    def bytes_left(self) -> float:
        """Bytes that a forward may take now."""
        if self.budget_gib is not None:
            return self.budget_gib * GIB
        return free_bytes(self.device) or float('inf')


def measure_grid(
    archs: Sequence[str],
    batches: Sequence[int],
    resolutions: Sequence[int],
    build: Callable[[str, int], Subjects],
    limits: Limits,
    tell: Callable[[str], None] = lambda text: None,
) -> Grid:
    """Measure all cells.

    ``build`` maps architecture and image side to subjects; ``tell`` gets a
    line before each cell.
    """
    grid = Grid()
    for arch in archs:
        for resolution in resolutions:
            subjects = build(arch, resolution)
            for batch in sorted(batches):
                tell(f'{arch}, {resolution} px, batch {batch}')
                cell = Cell(arch, batch, resolution)
                measure_cell(cell, subjects, limits, grid)
    return grid


def measure_cell(
    cell: Cell, subjects: Subjects, limits: Limits, grid: Grid
) -> None:
    """Measure one cell; the grid gets its rows and who was skipped."""
    skipped = dict(subjects.absent)
    timed = []
    for subject in subjects.subjects:
        reason = why_not(subject, cell.batch, limits)
        if reason is None:
            timed.append(subject)
        else:
            skipped[subject.name] = reason
    rows = list(race_cell(timed, cell, limits, skipped))
    add_predictions(rows)
    grid.rows += rows
    grid.skipped += [
        Skipped(**vars(cell), subject=name, reason=reason)
        for name, reason in skipped.items()
    ]


def race_cell(
    timed: Sequence[Subject],
    cell: Cell,
    limits: Limits,
    skipped: dict[str, str],
) -> Iterator[GridRow]:
    """Time subjects that are known to run, without predictions.

    ``skipped`` gets the reasons of those who were too slow.
    """
    entries = {c.name: c.entry(cell.batch) for c in timed}
    result = time_interleaved(
        entries, limits.repeats, limits.device, limits.budget_s
    )
    skipped.update(result.skipped)
    for subject in timed:
        if subject.name not in result.timings:
            continue
        growth = peak_growth(entries[subject.name].run, limits.device)
        found = {
            **result.timings[subject.name].summary(cell.batch),
            'memory_mib': None if growth is None else growth / MIB,
            **(subject.details(cell.batch) if subject.details else {}),
        }
        yield GridRow(
            **vars(cell),
            subject=subject.name,
            kind=subject.kind,
            model=subject.model or subject.kind,
            exit_ratio=subject.exit_ratio,
            weights_mib=subject.weight_bytes / MIB,
            gmacs=subject.macs and subject.macs / 1e9,
            **found,
        )


def why_not(subject: Subject, batch: int, limits: Limits) -> str | None:
    """Try smaller batches first; say why the wanted one cannot be timed.

    Running out of memory ends a process on a CPU, and an hour is lost before
    it is known to be one. A smaller batch tells the memory and an upper
    limit of the time.
    """
    try:
        return _try(subject, batch, limits)
    except RuntimeError as error:
        reason = out_of_memory(error)
        if not reason:
            raise
        if limits.device.type == 'cuda':
            torch.cuda.empty_cache()
        return reason


def _try(subject: Subject, batch: int, limits: Limits) -> str | None:
    rounds = (WARM_UP + min(MIN_ROUNDS, limits.repeats)) * subject.period(
        batch
    )
    size = 1
    while True:
        run = subject.make(size)
        run()
        seconds, growth = _look(run, limits.device, size)
        needed = growth * batch
        if needed > limits.bytes_left:
            return (
                f'over the memory budget: about {needed / GIB:.1f} GiB, '
                f'{limits.bytes_left / GIB:.1f} GiB may be used'
            )
        if seconds * batch * rounds <= limits.budget_s or size == batch:
            # What is still too slow is found out by the timing itself.
            return None
        larger = min(GROWTH * size, batch)
        if seconds * larger > limits.budget_s / 4:
            return over_budget(seconds * batch, rounds, limits.budget_s)
        size = larger


def _look(run: Run, device: torch.device, size: int) -> tuple[float, float]:
    """Seconds and bytes of one forward, an image."""
    seconds: list[float] = []
    growth = peak_growth(
        lambda: seconds.append(stopwatch(run, device)), device
    )
    if not seconds:
        # Memory cannot be measured here, and nothing ran.
        seconds.append(stopwatch(run, device))
    return seconds[0] / size, (growth or 0) / size
