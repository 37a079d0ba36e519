"""How time and memory grow with tokens, batch and threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mmscope.benchmark.grid import Cell, Grid, Limits, measure_cell
from mmscope.benchmark.subjects import Subject, Subjects

# Patches of 16 x 16 pixels: 196, 576, 1024, 2304, 4096 and 16,384 tokens.
SIDES = (224, 384, 512, 768, 1024, 2048)
BATCHES = (1, 2, 4, 8, 16, 32)
PATCH = 16
# Below it fixed costs hide how the time grows with the tokens.
MANY_TOKENS = 1000
# What nobody has seen may grow with the square.
WORST_EXPONENT = 2.0


@dataclass
class Curve:
    """One subject along one axis.

    Args:
        axis (str): 'tokens', 'batch' or 'threads'.
        subject (str): Name.
        x (list[float]): Positions.
        ms (list[float]): Median milliseconds of a forward.
        mib (list[float | None]): Memory of a forward.
    """

    axis: str
    subject: str
    x: list[float]
    ms: list[float]
    mib: list[float | None]

    def summary(self) -> dict:
        """Describe the curve with its fitted exponents.

        Returns:
            dict: Points, ``time_exponent`` and ``memory_exponent`` over all
            points; along the tokens also ``..._large``, over those with
            1000 or more. None where there are fewer than two.
        """
        found = {
            **vars(self),
            'time_exponent': fit_exponent(self.x, self.ms),
            'memory_exponent': fit_exponent(self.x, self.mib),
        }
        if self.axis == 'tokens':
            large = [i for i, x in enumerate(self.x) if x >= MANY_TOKENS]
            x = [self.x[i] for i in large]
            for name, y in (('time', self.ms), ('memory', self.mib)):
                found[f'{name}_exponent_large'] = fit_exponent(
                    x, [y[i] for i in large]
                )
        return found


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


def expected_seconds(
    x: Sequence[float], ms: Sequence[float], to: float
) -> float:
    """Extrapolate a curve carefully.

    Args:
        x (Sequence[float]): Positions so far, ascending.
        ms (Sequence[float]): Milliseconds there.
        to (float): Next position.

    Returns:
        float: Seconds there by the exponent between the last two points, at
        least 1; by the square after one point; 0 before the first.
    """
    if not x:
        return 0.0
    slope = WORST_EXPONENT
    if len(x) > 1:
        slope = max(fit_exponent(x[-2:], ms[-2:]) or 1.0, 1.0)
    return ms[-1] / 1e3 * (to / x[-1]) ** slope


class Growth:
    """Measures curves and keeps what was skipped.

    Args:
        arch (str): Architecture, for the report.
        build (Callable): Image side to subjects.
        limits (Limits): Budgets of each point, repeats, device.
        tell (Callable): Gets a line before each point. Defaults to silence.
    """

    def __init__(
        self,
        arch: str,
        build: Callable[[int], Subjects],
        limits: Limits,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.arch, self.build = arch, build
        self.limits, self.tell = limits, tell
        self.curves: dict[tuple[str, str], Curve] = {}
        self.skipped: list[dict] = []

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

    def _affordable(
        self, axis: str, to: float, subjects: Subjects
    ) -> Subjects:
        """Leave out who would overrun the budget with its first forward."""
        budget = self.limits.budget_s

        def reason(subject: Subject) -> str | None:
            curve = self.curves.get((axis, subject.name))
            if curve is None:
                return None
            seconds = expected_seconds(curve.x, curve.ms, to)
            if seconds <= budget:
                return None
            return (
                f'over the time budget: about {seconds:.3g} s expected from '
                f'the points before, {budget:.3g} s are there for everybody'
            )

        absent = {c.name: reason(c) for c in subjects.subjects}
        absent = {name: why for name, why in absent.items() if why}
        kept = [c for c in subjects.subjects if c.name not in absent]
        return replace(
            subjects, subjects=kept, absent={**subjects.absent, **absent}
        )

    def _point(
        self, axis: str, x: float, subjects: Subjects, cell: Cell
    ) -> None:
        self.tell(f'growth, {axis}: {x:g}')
        grid = Grid()
        measure_cell(cell, subjects, self.limits, grid)
        for row in grid.rows:
            name = row['subject']
            curve = self.curves.setdefault(
                (axis, name), Curve(axis, name, [], [], [])
            )
            curve.x.append(x)
            curve.ms.append(1e3 * cell.batch / row['images_per_s'])
            curve.mib.append(row['memory_mib'])
        self.skipped += [{**x_, 'axis': axis, 'x': x} for x_ in grid.skipped]

    def result(self) -> dict:
        """Return ``curves`` with fitted exponents and what was ``skipped``."""
        return {
            'curves': [curve.summary() for curve in self.curves.values()],
            'skipped': self.skipped,
        }


def thread_counts(most: int) -> list[int]:
    """Powers of two below a number of threads, and the number itself."""
    counts = [2**i for i in range(most.bit_length()) if 2**i < most]
    return [*counts, most]


def growth_report(result: dict) -> str:
    """Format the fitted exponents and what was skipped.

    Args:
        result (dict): From :meth:`Growth.result`.

    Returns:
        str: One line a curve.
    """
    lines = ['exponents p of y = c * x ** p (1: linear)']
    for curve in result['curves']:
        points = ', '.join(
            f'{x:g}: {ms:.1f} ms' + (f' {mib:.0f} MiB' if mib else '')
            for x, ms, mib in zip(
                curve['x'], curve['ms'], curve['mib'], strict=True
            )
        )
        lines.append(
            f'- {curve["axis"]}, {curve["subject"]}: '
            f'{_exponents(curve)} ({points})'
        )
    return '\n'.join([*lines, *skipped_lines(result)])


def skipped_lines(result: dict) -> list[str]:
    """Say what has no point in the curves, and why."""
    return [
        f'- skipped: {x["subject"]}, {x["axis"]} {x["x"]:g}: {x["reason"]}'
        for x in result['skipped']
    ]


def _exponents(curve: dict) -> str:
    found = []
    for name in ('time', 'memory'):
        value = curve[f'{name}_exponent']
        large = curve.get(f'{name}_exponent_large')
        if value is None:
            continue
        text = f'{name} {value:.2f}'
        if large is not None:
            text += f' ({large:.2f} from {MANY_TOKENS} tokens on)'
        found.append(text)
    return ', '.join(found) or 'one point only'
