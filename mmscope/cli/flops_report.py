"""What get_flops.py counted of a model, for programs and for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from mmscope.analysis import StageCosts, mean_cost
from mmscope.analysis.breakdown import EXTRA, STAGES, PartCost, UncountedOp
from mmscope.analysis.detectors import Regions
from mmscope.evaluation.tables import Column, format_table

UNITS = {'macs': 'MACs', 'flops': 'FLOPs'}
PARTS = (
    Column('stage', 'stage'),
    Column('part', 'part'),
    Column('op', 'operator'),
    Column('calls', 'calls', 'd'),
    Column('macs', 'MMACs', '.3f'),
    Column('flops', 'MFLOPs', '.3f'),
)
UNCOUNTED = (
    Column('where', 'where'),
    Column('op', 'operator'),
    Column('calls', 'calls', 'd'),
    Column('elements', 'values', ',d'),
)


@dataclass(frozen=True)
class MeanCosts(StageCosts):
    """Costs of the stages, and the mean over images of which some exit.

    Args:
        mean (int): In the unit of the others.
    """

    mean: int = 0

    @classmethod
    def of(cls, costs: StageCosts, exit_ratio: float) -> MeanCosts:
        """Add the mean to what the stages cost."""
        return cls(**asdict(costs), mean=round(mean_cost(costs, exit_ratio)))


@dataclass(frozen=True)
class ModelCounts:
    """Counts of one image.

    Args:
        params (int): Parameters of the model.
        convention (str): Of what is shown first.
        exit_ratio (float): Images that exit, of the mean.
        shape (tuple[int, int]): (height, width) in pixels.
        conventions (dict[str, dict[str, MeanCosts]]): By convention, and
            'macs' or 'flops'.
        closed_form (MeanCosts | None): MACs; None for a backbone without.
        shared_parts (dict[str, int]): MACs of the parts of ``shared``.
        regions (Regions | None): What the heads of a detector saw.
        breakdown (list[PartCost]): In ``convention``.
        uncounted (list[UncountedOp]): What ran and has no formula.
        left_out (list[str]): What no convention counts.
        not_run (list[str]): Modules whose input is not known.
    """

    params: int
    convention: str
    exit_ratio: float
    shape: tuple[int, int]
    conventions: dict[str, dict[str, MeanCosts]]
    closed_form: MeanCosts | None
    shared_parts: dict[str, int]
    regions: Regions | None
    breakdown: list[PartCost]
    uncounted: list[UncountedOp]
    left_out: list[str]
    not_run: list[str]

    @property
    def costs(self) -> MeanCosts:
        """MACs in the convention."""
        return self.conventions[self.convention]['macs']

    def to_json(self) -> dict[str, Any]:
        """Give plain counts; those of the convention stand at the top."""
        found = asdict(self)
        return {'params': found.pop('params'), **asdict(self.costs), **found}

    def report(self) -> str:
        """Format stages, parts of the model, and what is not counted."""
        parts = pd.DataFrame(self.breakdown)
        for unit in UNITS:
            parts[unit] = parts[unit] / 1e6
        return '\n\n'.join(
            [
                '; '.join(self._headline()),
                self._stage_table(),
                *self._shared_lines(),
                self._closed_form_line(),
                f'parts in the convention {self.convention!r}:',
                format_table(parts, PARTS),
                'not counted, besides activations inside our own operators '
                '(class of the module around it, calls, values written):',
                format_table(self.uncounted, UNCOUNTED),
            ]
        )

    def _headline(self) -> Iterator[str]:
        height, width = self.shape
        yield f'params: {self.params / 1e6:.3f} M ({self.params:,})'
        yield f'image: {height} x {width}'
        yield f'exit ratio: {self.exit_ratio:g}'
        if self.regions:
            for name, number in asdict(self.regions).items():
                yield f'{name}: {number}'
        for name in self.not_run:
            yield f'{name} NOT RUN'

    def _stage_table(self) -> str:
        """Format the cost of each stage, in both conventions and units."""
        found, columns = {}, [Column('stage', '')]
        for name, units in self.conventions.items():
            for unit, costs in units.items():
                key = f'{name} {unit}'
                found[key] = asdict(costs)
                columns.append(Column(key, f'{name} G{UNITS[unit]}', '.3f'))
        frame = pd.DataFrame(found).loc[[*STAGES, 'mean', EXTRA]] / 1e9
        return format_table(frame.rename_axis('stage').reset_index(), columns)

    def _shared_lines(self) -> Iterator[str]:
        """Say what every image pays, and what a detector does besides."""
        if self.shared_parts:
            parts = ', '.join(
                f'{part} {macs / 1e9:.3f}'
                for part, macs in self.shared_parts.items()
            )
            yield f'shared, in GMACs: {parts}'
        if self.left_out:
            names = ', '.join(self.left_out)
            yield f'left out, since no convention counts any of it: {names}'

    def _closed_form_line(self) -> str:
        if self.closed_form is None:
            return 'closed form: none for this backbone'
        same = self.closed_form == self.costs
        told = 'the same' if same else f'DIFFERS: {asdict(self.closed_form)}'
        return f'closed form: {told}'
