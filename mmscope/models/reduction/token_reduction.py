"""The seams through which a token reduction works."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

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

    Settings are checked whenever they are set, so that a sweep may vary them:
    ``checks`` maps a name to a function of name and value that gives back
    the value, or raises a ValueError.
    """

    checks: ClassVar[dict[str, Callable[[str, Any], Any]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.checks:
            value = self.checks[name](name, value)
        super().__setattr__(name, value)

    @abstractmethod
    def install(self, backbone: TokenBackbone) -> None:
        """Check that the backbone fits, and add modules to it.

        Raises:
            ValueError: If family or layers do not fit.
        """

    @abstractmethod
    def start(self, backbone: TokenBackbone, sequence: TokenSequence) -> Steps:
        """Make what accompanies one pass over embedded images."""

    def losses(self, record: Record) -> dict[str, Tensor]:
        """Compute what training adds to the task's loss: weighted scalars."""
        return {}

    def lengths(self, backbone: TokenBackbone, patches: int) -> list[int]:
        """Tell the length of the sequence in each block, for costs."""
        count = backbone.summary_tokens.count
        return [patches + count] * backbone.num_layers

    def macs(
        self, backbone: TokenBackbone, patches: int, directions: int = 2
    ) -> int:
        """Count the multiply-accumulates of all blocks, at their lengths.

        Those of modules that the reduction adds are among them, and where
        images skip directions, what training aims at is counted.
        """
        run = directions * self.direction_share()
        lengths = self.lengths(backbone, patches)
        # Linear in the directions, so it takes a share of them, too.
        layer_macs: Any = backbone.layer_macs
        blocks = round(sum(layer_macs(n, run) for n in lengths))
        return blocks + self.module_macs(backbone, patches)

    def direction_share(self) -> float:
        """Share of the scan directions that run, 1 by default."""
        return 1.0

    def skipping_nothing(
        self, backbone: TokenBackbone
    ) -> AbstractContextManager[None]:
        """Let one image run every scan direction for a while, to count it."""
        return nullcontext()

    def module_macs(self, backbone: TokenBackbone, patches: int) -> int:
        """Count the MACs of modules that the reduction adds, 0 here."""
        return 0

    def extra_macs(
        self, backbone: TokenBackbone, patches: int, directions: int = 2
    ) -> int:
        """Count what no convention counts: matching, alignment; 0 here."""
        return 0


def check_family(reduction: TokenReduction, backbone: TokenBackbone) -> None:
    """Refuse what is neither ViM nor VideoMamba.

    Raises:
        ValueError: If the backbone has others.
    """
    summary = backbone.summary_tokens
    woven = summary.count > 1 or summary.position == 'woven'
    if backbone.blocks != 'mamba' or woven:
        raise ValueError(
            f'reduction={type(reduction).__name__} is for ViM and VideoMamba, '
            f'got {backbone.family} with {backbone.blocks!r} blocks and '
            f'{summary.count} summary tokens ({summary.position})'
        )


def reduces_tokens(model: nn.Module) -> bool:
    """Tell whether a model's backbone shortens its sequence."""
    return next(_reduced_backbones(model), None) is not None


def find_reduced_backbone(model: nn.Module) -> TokenBackbone:
    """Find the backbone of a model that shortens its sequence.

    Raises:
        ValueError: If there is none.
    """
    found = next(_reduced_backbones(model), None)
    if found is None:
        raise ValueError(
            f'{type(unwrap_model(model)).__name__} reduces no tokens: give '
            "its backbone reduction=dict(type='mmscope.DyVM') or another one"
        )
    return found


def _reduced_backbones(model: nn.Module) -> Iterator[Any]:
    for module in unwrap_model(model).modules():
        if isinstance(getattr(module, 'reduction', None), TokenReduction):
            yield module
