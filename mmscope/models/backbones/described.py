"""Weights that say what they are, in the state dict and on loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from mmscope.models.backbones.checkpoint import adapt_state_dict
from mmscope.models.backbones.weights_info import WeightsInfo
from mmscope.models.layers import SummaryTokens

if TYPE_CHECKING:
    from mmscope.models.backbones.token_backbone import TokenBackbone


class DescribedWeights(nn.Module):
    """Stores one entry with the weights, and checks it when it loads.

    Attributes:
        blocks (str): 'mamba' or 'attention'.
        family (str): Its name, for messages.
        average_directions (bool): Whether a mixer halves.
        released_summary (SummaryTokens): What a checkpoint has that does not
            say it.
        rope (bool): Whether tokens are turned by rotary positions. Defaults
            to False.
        selection (bool | None): Whether a scope selects regions; None for
            what has no selection. Defaults to None.
    """

    blocks: str
    family: str
    average_directions: bool
    released_summary: SummaryTokens
    rope: bool = False
    selection: bool | None = None

    def describe(self) -> WeightsInfo:
        """Say what the weights are, whatever class holds them."""
        return WeightsInfo.of(cast('TokenBackbone', self))

    def get_extra_state(self) -> Tensor:
        """Pack :meth:`describe` for the state dict, (n,) uint8."""
        return self.describe().pack()

    def set_extra_state(self, state: Tensor) -> None:
        """Accept it: ``_load_from_state_dict`` has read it before."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any
    ) -> None:
        adapt_state_dict(cast('TokenBackbone', self), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
