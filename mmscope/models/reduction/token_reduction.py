"""The seams through which a token reduction works."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from mmscope.models.layers import Record, Steps, TokenSequence, unwrap_model

if TYPE_CHECKING:
    from mmscope.models.backbones.token_backbone import TokenBackbone


class TokenReduction(ABC):
    """Shortens the sequence of a one-stage backbone while it runs.

    A plain object that holds settings alone: modules that it needs are put
    on the backbone under their released names and looked up there at each
    call, so that copies, adapters and optimisers find them. With nothing to
    reduce it asks for nothing, and the backbone computes what it computes
    without.
    """

    @abstractmethod
    def install(self, backbone: TokenBackbone) -> None:
        """Check that the backbone fits, and add modules to it.

        Args:
            backbone (TokenBackbone): Complete but for what is added.

        Raises:
            ValueError: If family or layers do not fit.
        """

    @abstractmethod
    def start(self, backbone: TokenBackbone, sequence: TokenSequence) -> Steps:
        """Make what accompanies one pass.

        Args:
            backbone (TokenBackbone): It runs.
            sequence (TokenSequence): Embedded images.

        Returns:
            Steps: With the state of this pass.
        """

    def losses(self, record: Record) -> dict[str, Tensor]:
        """Compute what training adds to the task's loss.

        Args:
            record (Record): Of a training forward.

        Returns:
            dict[str, Tensor]: Weighted scalars; none by default.
        """
        return {}

    def lengths(self, backbone: TokenBackbone, patches: int) -> list[int]:
        """Tell the length of the sequence in each block, for costs.

        Args:
            backbone (TokenBackbone): It would run.
            patches (int): Patches of the image.

        Returns:
            list[int]: One a block, summary tokens included.
        """
        count = backbone.summary_tokens.count
        return [patches + count] * backbone.num_layers

    def directions(self, backbone: TokenBackbone) -> float:
        """Tell how many directions a block runs on average, for costs.

        Args:
            backbone (TokenBackbone): It would run.

        Returns:
            float: In [0, 2]; both by default.
        """
        return 2.0

    def extra_macs(self, backbone: TokenBackbone, patches: int) -> int:
        """Count what deciding costs beyond the blocks, 0 by default."""
        return 0


def reduces_tokens(model: nn.Module) -> bool:
    """Tell whether a model's backbone shortens its sequence.

    Args:
        model (nn.Module): Host model, wrapped or not, or the backbone.

    Returns:
        bool: True if a part of it has a :class:`TokenReduction`.
    """
    return any(
        isinstance(getattr(module, 'reduction', None), TokenReduction)
        for module in unwrap_model(model).modules()
    )
