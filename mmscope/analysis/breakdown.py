"""What a forward cost, by stage and part of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmscope.analysis.costs import StageCosts, direction_count
from mmscope.analysis.formulas import is_scan
from mmscope.analysis.op_trace import FIRST, OUTSIDE, OpCall

STAGES = ('coarse', 'fine', 'reuse', 'shared')
# What a token reduction computes between the blocks: in no sum.
EXTRA = 'extra'


@dataclass
class PartCost:
    """What one operator cost in one part of the model.

    Args:
        stage (str): One of ``STAGES``, or 'extra' for a token reduction's
            own products.
        part (str): Layer of a block, or module of the model.
        op (str): The operator.
        calls (int): How often it ran. Defaults to 0.
        macs (float): A scan's operations among them. Defaults to 0.
        flops (float): Twice the MACs but for a scan. Defaults to 0.
    """

    stage: str
    part: str
    op: str
    calls: int = 0
    macs: float = 0
    flops: float = 0


@dataclass
class UncountedOp:
    """An operator without a formula.

    Args:
        where (str): Class of the innermost module around it.
        op (str): The operator.
        calls (int): How often it ran. Defaults to 0.
        elements (int): Values that it wrote. Defaults to 0.
    """

    where: str
    op: str
    calls: int = 0
    elements: int = 0


@dataclass(frozen=True)
class CostBreakdown:
    """The operators of one forward, sorted by stage and part of the model.

    Args:
        calls (Sequence[OpCall]): What ran, for one image.
        prefix (str): Qualified name of the backbone, with a dot; '' if the
            backbone is the model.
        two_stage (bool): Whether the backbone has a coarse stage.
        classifies (bool): Whether the head behind the backbone belongs to
            the stage that called it (a classifier), not to ``shared``.
        extra (Mapping[str, int]): What a token reduction says that its
            deciding costs, in MACs by convention; not all of it is products
            that are seen here. Defaults to nothing.
        direction_share (float): Share of the scan directions that a token
            reduction aims at; all ran, and so much is counted. Defaults to
            1.
    """

    calls: Sequence[OpCall]
    prefix: str
    two_stage: bool
    classifies: bool
    extra: Mapping[str, int] = field(default_factory=dict)
    direction_share: float = 1.0

    def rows(self, convention: str = 'paper') -> list[PartCost]:
        """List what was counted, in order of stage.

        Raises:
            ValueError: If the convention is unknown.
        """
        return [
            replace(row, macs=round(row.macs), flops=round(row.flops))
            for row in self._exact_rows(convention)
        ]

    def _exact_rows(self, convention: str) -> list[PartCost]:
        """:meth:`rows` with fractions, where a share is counted."""
        both = direction_count(convention) == 2
        found: dict[tuple[str, str, str], PartCost] = {}
        for call in self.calls:
            cost = self._cost(call)
            if cost is None or not (both or self._counts_once(call)):
                continue
            part = self._part(call)
            key = (self._stage(call, part), part, call.op)
            row = found.setdefault(key, PartCost(*key))
            row.calls += 1
            row.macs += cost
            row.flops += cost * (1 if is_scan(call.op) else 2)
        order = (*STAGES, EXTRA)
        return sorted(found.values(), key=lambda row: order.index(row.stage))

    def costs(
        self, convention: str = 'paper', unit: str = 'macs'
    ) -> StageCosts:
        """Sum one image's 'macs', or 'flops': twice those but for the scan."""
        sums = dict.fromkeys((*STAGES, EXTRA), 0)
        for row in self._exact_rows(convention):
            sums[row.stage] += getattr(row, unit)
        sums = {stage: round(count) for stage, count in sums.items()}
        sums[EXTRA] = self.extra.get(convention, 0)
        if unit == 'flops':
            sums[EXTRA] *= 2
        return StageCosts(**sums)

    def shared_parts(self) -> dict[str, int]:
        """Sum the MACs that every image pays, by part of the model.

        ``neck``, ``rpn_head``, ``bbox_head`` and so on, in order of running.
        Either convention: no scan is there.
        """
        parts: dict[str, int] = {}
        for row in self.rows():
            if row.stage == 'shared':
                parts[row.part] = parts.get(row.part, 0) + round(row.macs)
        return parts

    @property
    def outside(self) -> int:
        """MACs of what ran behind the backbone."""
        behind = (call for call in self.calls if call.stage == OUTSIDE)
        return sum(call.cost or 0 for call in behind)

    def uncounted(self) -> list[UncountedOp]:
        """List what ran and has no formula, the most elements first.

        Views, which compute nothing, are left out.
        """
        found: dict[tuple[str, str], UncountedOp] = {}
        for call in self.calls:
            if call.cost is None:
                key = (call.kind, call.op)
                row = found.setdefault(key, UncountedOp(*key))
                row.calls += 1
                row.elements += call.elements
        return sorted(found.values(), key=lambda row: -row.elements)

    def _stage(self, call: OpCall, part: str) -> str:
        if call.stage == OUTSIDE:
            return 'fine' if self.classifies else 'shared'
        if call.stage == FIRST:
            if self.two_stage:
                return 'coarse'
            # In no layer and of no weight: computed between the blocks.
            is_between = call.module == self.prefix.removesuffix('.')
            is_extra = self.extra and is_between and not call.weight
            return EXTRA if is_extra else 'fine'
        return 'reuse' if part == 'reuse' else 'fine'

    def _part(self, call: OpCall) -> str:
        """Name the layer of a block or the top-level module it belongs to."""
        if is_scan(call.op):
            return 'scan'
        name = call.weight or call.module
        if mixer := _mixer_entry(name):
            return mixer.removesuffix('_b')
        if name.startswith(self.prefix):
            # Once more inside a wrapper.
            name = name.removeprefix(self.prefix).removeprefix('backbone.')
        # Box heads and mask heads are parts of their own.
        name = name.removeprefix('roi_head.')
        return name.partition('.')[0] or 'other'

    def _cost(self, call: OpCall) -> float | None:
        """Count a call: of a scan direction the share, of its head nothing."""
        entry = _mixer_entry(call.weight)
        # Left out by DyVM's authors, whose numbers these are.
        if call.cost is None or entry == 'block_head':
            return None
        if self.direction_share == 1 or entry in ('', 'in_proj', 'out_proj'):
            return call.cost
        return call.cost * self.direction_share

    @staticmethod
    def _counts_once(call: OpCall) -> bool:
        entry = _mixer_entry(call.weight)
        return not (entry.endswith('_b') or entry == 'A_b_log')


def _mixer_entry(name: str) -> str:
    return name.partition('.mixer.')[2].partition('.')[0]
