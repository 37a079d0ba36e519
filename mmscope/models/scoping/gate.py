"""The confidence gate: who leaves after the coarse stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmscope.models.heads.confidence import (
    MAP,
    check_confidence,
    confidence,
    kinds_of,
    map_confidence,
)
from mmscope.models.scoping.checks import check_temperature
from mmscope.models.scoping.head_meaning import meaning_of, present_classes


class Gate(ABC):
    """Exit iff confidence >= η (paper section 4.1), judged by some head.

    A plain object, not a module: holding one adds no parameter and no
    submodule to the backbone, and ``copy.deepcopy`` of a whole model maps
    ``owner`` to the copy.

    Args:
        owner (nn.Module): What has the head.
        kind (str | None): Kind of confidence; None for that of the head
            which is there when it decides. Defaults to None.
        temperature (float): T; confidences are those of logits / T.
            Defaults to 1.

    Raises:
        ValueError: If the head's outputs have no such confidence, or the
            temperature is not > 0.
    """

    # A host model or a backbone: which parts it has, subclasses know.
    owner: Any

    def __init__(
        self,
        owner: nn.Module,
        kind: str | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.owner = owner
        self.wanted_kind = kind
        check_confidence(
            self.kind,
            self.meaning,
            getattr(self.head, 'num_classes', None),
            self.has_map,
        )
        self.temperature = temperature

    @property
    def kind(self) -> str:
        """Kind of confidence: what was wanted, else the head's own."""
        if self.wanted_kind is not None:
            return self.wanted_kind
        return getattr(self.head, 'kind', self.kinds[0])

    @kind.setter
    def kind(self, value: str | None) -> None:
        self.wanted_kind = value

    @property
    @abstractmethod
    def head(self) -> nn.Module:
        """The module that predicts."""

    @property
    def temperature(self) -> float:
        """T > 0, by which the logits that decide are divided before."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._temperature = check_temperature(value)

    @property
    def meaning(self) -> str:
        """What the head's outputs are, see :func:`meaning_of`."""
        return meaning_of(self.head)

    @property
    def has_map(self) -> bool:
        """Whether the head also predicts the classes of coarse cells."""
        return getattr(self.head, 'has_map', False)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind of confidence that the head offers."""
        return kinds_of(self.meaning, self.has_map)

    def logits(self, cls: Tensor) -> Tensor:
        """Predict from coarse cls tokens (B, D): (B, C)."""
        return self.head(cls)

    def map_logits(self, tokens: Tensor) -> Tensor:
        """Predict from coarse patch tokens (B, n, D): (B, n, K)."""
        head: Any = self.head
        return head.map_logits(tokens)

    def confidence(self, cls: Tensor, tokens: Tensor) -> Tensor:
        """Judge coarse predictions.

        Args:
            cls (Tensor): What the backbone reads out of the coarse stage,
                (B, D).
            tokens (Tensor): Its patch tokens after the final norm,
                (B, n, D).

        Returns:
            Tensor: (B,) float32 in [0, 1].
        """
        return self.judge(cls, tokens, (self.kind,))[self.kind]

    def judge(
        self, cls: Tensor, tokens: Tensor, kinds: Sequence[str]
    ) -> dict[str, Tensor]:
        """Judge coarse predictions by several kinds of confidence.

        Each part of the head runs once, and only if a kind asks for it. The
        temperature is that of the part which decides: beside a map the
        others are judged at 1, and a map beside them.

        Args:
            cls (Tensor): As for :meth:`confidence`.
            tokens (Tensor): As for :meth:`confidence`.
            kinds (Sequence[str]): Some of ``self.kinds``.

        Returns:
            dict[str, Tensor]: (B,) float32 in [0, 1] for each kind.
        """
        found, of_image = {}, [kind for kind in kinds if kind != MAP]
        if of_image:
            logits, meaning = self.logits(cls).float(), self.meaning
            present = None
            if meaning == 'multi_label':
                present = present_classes(self.head, logits)
            logits = self._scaled(logits, of_map=False)
            for kind in of_image:
                found[kind] = confidence(logits, kind, meaning, present)
        if MAP in kinds:
            logits = self.map_logits(tokens).float()
            found[MAP] = map_confidence(self._scaled(logits, of_map=True))
        return found

    def _scaled(self, logits: Tensor, of_map: bool) -> Tensor:
        # T was found for the logits that decide; others have another scale.
        decides = of_map == (self.kind == MAP)
        return logits / self.temperature if decides else logits

    def is_trained(self, kind: str) -> bool:
        """Tell whether the part of the head is trained that a kind asks."""
        head: Any = self.head
        ask = getattr(head, 'is_trained_for', None)
        return ask(kind) if ask else getattr(head, 'is_trained', True)

    def check_trained(self) -> None:
        """Refuse to decide by a head that has never been trained.

        Raises:
            RuntimeError: If the head knows that it has seen no update.
        """
        if not self.is_trained(self.kind):
            raise RuntimeError(
                f'the gate would decide by a {type(self.head).__name__} that '
                f'was never trained for confidence {self.kind!r}: load a '
                'checkpoint trained with the exit head and a loss weight '
                'above 0 (EarlyExitEncoderDecoder, or a plain host with '
                'ConfidenceGateHook), or use exit_threshold 0, > 1 or None'
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Gate:
        # Where the owner is copied too, it comes first. A backbone that is
        # copied alone goes on asking the host that it belongs to.
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        copied.owner = memo.get(id(self.owner), self.owner)
        return copied


class ExitHeadGate(Gate):
    """The same, judged by the exit head that its backbone has just now.

    Args:
        owner (nn.Module): Backbone with ``exit_head``.
        kind (str | None): See :class:`Gate`.
        temperature (float): See :class:`Gate`.
    """

    @property
    def head(self) -> nn.Module:
        """The backbone's exit head as it is now."""
        return self.owner.exit_head


class HostGate(Gate):
    """The same, judged by what a classifier makes of the coarse token.

    Neck and head are looked up when it decides, so one that somebody
    replaced counts at once.

    Args:
        owner (nn.Module): Host model with ``head`` and perhaps ``neck``.
        kind (str | None): Kind of confidence. Defaults to None, the first
            of the outputs' meaning.
        temperature (float): See :class:`Gate`.
    """

    @property
    def head(self) -> nn.Module:
        """The host's head as it is now."""
        return self.owner.head

    def logits(self, cls: Tensor) -> Tensor:
        """Predict as the host does: neck, then head, (B, C)."""
        feats = (cls,)
        if getattr(self.owner, 'neck', None) is not None:
            feats = self.owner.neck(feats)
        return self.head(feats)


class WrappedGate(Gate):
    """A gate that predicts as another does, for those who add to it.

    Args:
        gate (Gate): The model's own.
    """

    def __init__(self, gate: Gate) -> None:
        self.own = gate
        super().__init__(gate.owner, gate.wanted_kind, gate.temperature)

    @property
    def head(self) -> nn.Module:
        """The module that predicts for the model's own gate."""
        return self.own.head

    def logits(self, cls: Tensor) -> Tensor:
        """Predict as the model's own gate does, (B, C)."""
        return self.own.logits(cls)


def exit_mask(confidence: Tensor, threshold: float) -> Tensor:
    """Decide who leaves.

    Args:
        confidence (Tensor): (B,).
        threshold (float): η.

    Returns:
        Tensor: (B,) bool; all leave at 0, even where the confidence is NaN.
    """
    if threshold == 0.0:
        return torch.ones_like(confidence, dtype=torch.bool)
    return confidence.double() >= threshold
