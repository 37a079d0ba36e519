"""What may be set on a scope at any time, and is checked when it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from mmscope.models.backbones.arguments import check_choice, resolve_indices
from mmscope.models.layers import SummaryTokens, check_rate
from mmscope.models.reduction.settings import flag
from mmscope.models.scoping.family import ScopedFamily, fine_summary
from mmscope.models.scoping.layout import CLS_POSITIONS, TOKEN_ORDERS
from mmscope.models.scoping.reuse import check_reuse

UNSELECTED_TOKENS = ('embedding', 'feature')
Check = Callable[[Any, Any], Any]


def _one_of(name: str, choices: tuple[str, ...]) -> Check:
    return lambda _, value: check_choice(name, value, choices)


def _scored_blocks(scope: ScopedFamily, value: Any) -> tuple[int, ...]:
    depth = scope.num_layers
    if value is None:
        value = range(depth // 2, depth, 2)
    return resolve_indices('score_layers', value, depth)


class CheckedScope(ScopedFamily):
    """Settings of a :class:`CoarseToFine`; a wrong value is a ValueError.

    ``checks`` maps a name to a function of the scope and the value that
    gives back what is set.
    """

    token_order: str
    feature_reuse: str
    unselected_tokens: str
    score_momentum: float
    # A tuple of ints, from whatever is set.
    score_layers: Any
    selection: bool
    fine_summary: SummaryTokens
    checks: ClassVar[dict[str, Check]] = {
        'score_momentum': lambda _, value: check_rate('score_momentum', value),
        'score_layers': _scored_blocks,
        'token_order': _one_of('token_order', TOKEN_ORDERS),
        'feature_reuse': check_reuse,
        'unselected_tokens': _one_of('unselected_tokens', UNSELECTED_TOKENS),
        'selection': lambda _, value: flag('selection', value),
    }

    def __setattr__(self, name: str, value: Any) -> None:
        check = self.checks.get(name)
        super().__setattr__(name, check(self, value) if check else value)

    @property
    def cls_position(self) -> str:
        """Place of the summary tokens among the fine ones, in our words."""
        place = self.fine_summary.position
        return next((k for k, v in CLS_POSITIONS.items() if v == place), place)

    @cls_position.setter
    def cls_position(self, value: str | None) -> None:
        self.fine_summary = fine_summary(self, value)
