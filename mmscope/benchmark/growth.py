"""How time and memory grow with tokens, batch and threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from mmscope.benchmark.grid import Limits, measure_cell
from mmscope.benchmark.grid_report import paragraphs
from mmscope.benchmark.grid_rows import Cell, Grid, Skipped
from mmscope.benchmark.setting import Setting, setting_line
from mmscope.benchmark.subjects import Subjects
from mmscope.evaluation.tables import Column, format_table

# Patches of 16 x 16 pixels: 196, 576, 1024, 2304, 4096 and 16,384 tokens.
SIDES = (224, 384, 512, 768, 1024, 2048)
BATCHES = (1, 2, 4, 8, 16, 32)
PATCH = 16
# Below it fixed costs hide how the time grows with the tokens.
MANY_TOKENS = 1000
# What nobody has seen may grow with the square.
WORST_EXPONENT = 2.0
COLUMNS = (
    Column('axis', 'over'),
    Column('subject', 'subject'),
    Column('time_exponent', 'p of time', '.2f'),
    Column('time_exponent_large', f'from {MANY_TOKENS} tokens', '.2f'),
    Column('memory_exponent', 'p of memory', '.2f'),
    Column('memory_exponent_large', f'from {MANY_TOKENS} tokens', '.2f'),
    Column('range', 'measured'),
)


@dataclass
class Curve:
    """One subject along 'tokens', 'batch' or 'threads'.

    At ``x`` a forward takes ``ms`` milliseconds and ``mib`` of memory.
    Exponents are p of y = c * x ** p, None with fewer than two points;
    ``..._large`` are over points with 1000 tokens or more.
    """

    axis: str
    subject: str
    x: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    mib: list[float | None] = field(default_factory=list)
    time_exponent: float | None = None
    memory_exponent: float | None = None
    time_exponent_large: float | None = None
    memory_exponent_large: float | None = None

    def fitted(self) -> Curve:
        """Return the same points with their exponents."""
        found = {
            'time_exponent': fit_exponent(self.x, self.ms),
            'memory_exponent': fit_exponent(self.x, self.mib),
        }
        if self.axis == 'tokens':
            large = [i for i, x in enumerate(self.x) if x >= MANY_TOKENS]
            x, ms, mib = (
                [y[i] for i in large] for y in (self.x, self.ms, self.mib)
            )
            found['time_exponent_large'] = fit_exponent(x, ms)
            found['memory_exponent_large'] = fit_exponent(x, mib)
        return replace(self, **found)


@dataclass
class Curves:
    """What was measured, and who has no point where and why."""

    curves: list[Curve]
    skipped: list[Skipped]


@dataclass
class GrowthFile:
    """What a file of growth holds."""

    growth: Curves
    setting: Setting


def fit_exponent(
    x: Sequence[float], y: Sequence[float | None]
) -> float | None:
    """Fit y = c * x ** p by least squares of the logarithms.

    Args:
        x (Sequence[float]): Positive positions.
        y (Sequence[float | None]): Values; None and zero are left out.

    Returns:
        float | None: p; None with fewer than two positions.
    """
    known = [(a, b) for a, b in zip(x, y, strict=True) if b]
    if len({a for a, _ in known}) < 2:
        return None
    logs = np.log(np.array(known, dtype=float))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def expected_seconds(curve: Curve, to: float) -> float:
    """Extrapolate a curve carefully.

    By the exponent between the last two points, at least 1; by the square
    after one point; 0 before the first.
    """
    if not curve.x:
        return 0.0
    slope = WORST_EXPONENT
    if len(curve.x) > 1:
        slope = max(fit_exponent(curve.x[-2:], curve.ms[-2:]) or 1.0, 1.0)
    return curve.ms[-1] / 1e3 * (to / curve.x[-1]) ** slope


@dataclass
class Growth:
    """Measures curves of an architecture, and keeps what was skipped.

    ``build`` maps an image side to subjects; ``tell`` gets a line a point.
    """

    arch: str
    build: Callable[[int], Subjects]
    limits: Limits
    tell: Callable[[str], None] = lambda text: None
    _curves: dict[tuple[str, str], Curve] = field(default_factory=dict)
    _skipped: list[Skipped] = field(default_factory=list)

    def tokens(self, sides: Sequence[int] = SIDES) -> None:
        """Measure one image of growing size; x counts its patches."""
        for side in sides:
            tokens = (side // PATCH) ** 2
            subjects = self._affordable('tokens', tokens, self.build(side))
            self._point('tokens', tokens, subjects, Cell(self.arch, 1, side))

    def batch(
        self, batches: Sequence[int] = BATCHES, side: int = SIDES[0]
    ) -> None:
        """Measure growing batches of images of one size."""
        subjects = self.build(side)
        for batch in batches:
            cell = Cell(self.arch, batch, side)
            self._point('batch', batch, subjects, cell)

    def threads(
        self, numbers: Sequence[int], batch: int = 8, side: int = SIDES[0]
    ) -> None:
        """Measure one batch with growing numbers of threads."""
        before, subjects = torch.get_num_threads(), self.build(side)
        try:
            for number in numbers:
                torch.set_num_threads(number)
                cell = Cell(self.arch, batch, side)
                self._point('threads', number, subjects, cell)
        finally:
            torch.set_num_threads(before)

    def _curve(self, axis: str, subject: str) -> Curve:
        return self._curves.setdefault((axis, subject), Curve(axis, subject))

    def _affordable(
        self, axis: str, to: float, subjects: Subjects
    ) -> Subjects:
        """Leave out who would overrun the budget with its first forward."""
        budget, kept = self.limits.budget_s, []
        absent = dict(subjects.absent)
        for subject in subjects.subjects:
            seconds = expected_seconds(self._curve(axis, subject.name), to)
            if seconds <= budget:
                kept.append(subject)
                continue
            absent[subject.name] = (
                f'over the time budget: about {seconds:.3g} s expected from '
                f'the points before, {budget:.3g} s are there for everybody'
            )
        return Subjects(kept, absent)

    def _point(
        self, axis: str, x: float, subjects: Subjects, cell: Cell
    ) -> None:
        self.tell(f'growth, {axis}: {x:g}')
        grid = Grid()
        measure_cell(cell, subjects, self.limits, grid)
        for row in grid.rows:
            curve = self._curve(axis, row.subject)
            curve.x.append(x)
            curve.ms.append(1e3 * cell.batch / row.images_per_s)
            curve.mib.append(row.memory_mib)
        self._skipped += [replace(s, axis=axis, x=x) for s in grid.skipped]

    def result(self) -> Curves:
        """Return curves with fitted exponents, and what was skipped."""
        curves = [curve.fitted() for curve in self._curves.values() if curve.x]
        return Curves(curves, self._skipped)


def thread_counts(most: int) -> list[int]:
    """Powers of two below a number of threads, and the number itself."""
    counts = [2**i for i in range(most.bit_length()) if 2**i < most]
    return [*counts, most]


def growth_section(file: GrowthFile) -> str:
    """Format the exponents, and what was skipped."""
    frame = pd.DataFrame(file.growth.curves)
    frame['range'] = [f'{min(x):g} to {max(x):g}' for x in frame.get('x', [])]
    skipped = '\n'.join(
        f'- skipped: {s.subject}, {s.axis} {s.x:g}: {s.reason}'
        for s in file.growth.skipped
    )
    return paragraphs(
        format_table(frame, COLUMNS), skipped, setting_line(file.setting)
    )
