"""What a forward cost, by stage and part of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmscope.analysis.costs import StageCosts, direction_count
from mmscope.analysis.formulas import is_scan
from mmscope.analysis.op_trace import FIRST, OUTSIDE, OpCall

STAGES = ('coarse', 'fine', 'reuse', 'shared')
# What a token reduction computes between the blocks: in no sum.
EXTRA = 'extra'


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

    def rows(self, convention: str = 'paper') -> list[dict[str, Any]]:
        """List what was counted.

        Args:
            convention (str): 'paper' (one direction of convolution,
                ``x_proj``, ``dt_proj`` and scan) or 'exact' (both).

        Returns:
            list[dict]: ``stage`` ('extra' for a token reduction's own
            products), ``part``, ``op``, ``calls``, ``macs`` (a
            scan's operations among them) and ``flops``, in order of stage.

        Raises:
            ValueError: If the convention is unknown.
        """
        rows = self._exact_rows(convention)
        units = ('macs', 'flops')
        return [{**row, **{u: round(row[u]) for u in units}} for row in rows]

    def _exact_rows(self, convention: str) -> list[dict[str, Any]]:
        """:meth:`rows` with fractions, where a share is counted."""
        both = direction_count(convention) == 2
        found: dict[tuple[str, str, str], dict[str, Any]] = {}
        for call in self.calls:
            cost = self._cost(call)
            if cost is None or not (both or self._counts_once(call)):
                continue
            part = self._part(call)
            key = (self._stage(call, part), part, call.op)
            row = found.setdefault(key, {'calls': 0, 'macs': 0, 'flops': 0})
            row['calls'] += 1
            row['macs'] += cost
            row['flops'] += cost * (1 if is_scan(call.op) else 2)
        order = (*STAGES, EXTRA)
        keyed = sorted(found.items(), key=lambda kv: order.index(kv[0][0]))
        names = ('stage', 'part', 'op')
        return [
            dict(zip(names, key, strict=True), **row) for key, row in keyed
        ]

    def costs(
        self, convention: str = 'paper', unit: str = 'macs'
    ) -> StageCosts:
        """Sum what was counted.

        Args:
            convention (str): 'paper' or 'exact'. Defaults to 'paper'.
            unit (str): 'macs' or 'flops', which are twice the MACs except
                for the scan. Defaults to 'macs'.

        Returns:
            StageCosts: One image's.
        """
        sums = dict.fromkeys((*STAGES, EXTRA), 0)
        for row in self._exact_rows(convention):
            sums[row['stage']] += row[unit]
        sums = {stage: round(count) for stage, count in sums.items()}
        sums[EXTRA] = self.extra.get(convention, 0)
        if unit == 'flops':
            sums[EXTRA] *= 2
        return StageCosts(**sums)

    def shared_parts(self) -> dict[str, int]:
        """Sum what every image pays, by part of the model.

        Returns:
            dict[str, int]: MACs of ``neck``, ``rpn_head``, ``bbox_head`` and
            so on, in order of running. Either convention: no scan is there.
        """
        parts: dict[str, int] = {}
        for row in self.rows():
            if row['stage'] == 'shared':
                part = row['part']
                parts[part] = parts.get(part, 0) + row['macs']
        return parts

    @property
    def outside(self) -> int:
        """MACs of what ran behind the backbone."""
        behind = (call for call in self.calls if call.stage == OUTSIDE)
        return sum(call.cost or 0 for call in behind)

    def uncounted(self) -> list[dict[str, Any]]:
        """List what ran and has no formula.

        Returns:
            list[dict]: ``where`` (class of the innermost module), ``op``,
            ``calls`` and ``elements`` written, the most elements first.
            Views, which compute nothing, are left out.
        """
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for call in self.calls:
            if call.cost is None:
                row = found.setdefault(
                    (call.kind, call.op), {'calls': 0, 'elements': 0}
                )
                row['calls'] += 1
                row['elements'] += call.elements
        keyed = sorted(found.items(), key=lambda kv: -kv[1]['elements'])
        return [{'where': w, 'op': op, **row} for (w, op), row in keyed]

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
