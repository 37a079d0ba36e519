"""The frame of a model that looks twice: gate, split, record."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mmscope.models.heads.confidence import CONFIDENCES
from mmscope.models.layers import Observed, unwrap_model
from mmscope.models.scoping.checks import check_threshold
from mmscope.models.scoping.gate import (
    ExitHeadGate,
    Gate,
    HostGate,
    exit_mask,
)
from mmscope.models.scoping.stages import (
    CoarseStage,
    ExitRecord,
    FineStage,
    put_rows,
)
from mmscope.registry import MODELS

# Outside the modules: no copy and no state dict meets them.
_last_exits: WeakKeyDictionary[TwoStage, ExitRecord] = WeakKeyDictionary()


class TwoStage(Observed):
    """A mixin that lets confident images leave after a coarse stage.

    It stands before a class that embeds and encodes. Every image runs
    through :meth:`forward_coarse`; in evaluation those that are not sure run
    through :meth:`forward_fine`, and results are put back in order.

    Args:
        **family (Any): Of the class behind.
    """

    # Of the family behind, which alone knows its grid: images padded to
    # whole cells, and what ``out_type`` asks for of the result of a pass.
    pad: Callable[[Tensor], Tensor]
    output: Callable[..., tuple[Tensor, ...]]
    exit_head: nn.Module | None
    _gate: Gate | None
    out_type: str
    patch_stride: int
    summary_dims: int
    # The share of the lost energy that a scope may go by instead of a ratio.
    refine_coverage: float | None = None

    def __init__(self, **family: Any) -> None:
        super().__init__(**family)
        self.exit_head = None
        self.gate = None
        self.exit_threshold = None

    def _add_exit(
        self, exit_head: dict[str, Any] | None, exit_threshold: float | None
    ) -> None:
        """Add the exit head, the last of all modules, and its gate.

        Raises:
            ValueError: If it is no config of a head that could judge what
                this backbone reads out, or the threshold is invalid.
        """
        if exit_head:
            if not isinstance(exit_head, dict) or 'type' not in exit_head:
                raise ValueError(
                    'exit_head must be None or a dict with a type, such as '
                    "dict(type='mmscope.MultiLabelExitHead', "
                    f'num_classes=20), got {exit_head!r}'
                )
            config = {'in_channels': self.summary_dims, **exit_head}
            self._check_width(config)
            self.exit_head = MODELS.build(config)
            _check_meaning(self.exit_head)
            self._check_map(self.exit_head)
            self.gate = ExitHeadGate(self)
        self.exit_threshold = exit_threshold

    def _check_width(self, exit_head: dict[str, Any]) -> None:
        """Refuse a head for vectors of another width."""
        if exit_head['in_channels'] != self.summary_dims:
            raise ValueError(
                f'exit_head has in_channels={exit_head["in_channels"]!r}, and '
                f'{type(self).__name__} gives it vectors of '
                f'{self.summary_dims} channels: leave in_channels out'
            )

    def _check_map(self, exit_head: nn.Module) -> None:
        """Refuse a map that would read tokens of another width."""
        width = getattr(self, 'embed_dims', self.summary_dims)
        if getattr(exit_head, 'has_map', False) and width != self.summary_dims:
            raise ValueError(
                f'the map of an exit head reads coarse tokens of {width} '
                'channels, and this one is made for the summary tokens that '
                f'out_type={self.out_type!r} gives, of {self.summary_dims}: '
                "set out_type='featmap', or leave the map out "
                '(map_loss_weight=None, another confidence)'
            )

    @property
    def gate(self) -> Gate | None:
        """Who decides; with an exit head, whoever put it there, that head."""
        by_head = isinstance(self._gate, ExitHeadGate)
        if self.exit_head is None:
            return None if by_head else self._gate
        if self._gate is None or isinstance(self._gate, HostGate):
            self._gate = ExitHeadGate(self)
        return self._gate

    @gate.setter
    def gate(self, value: Gate | None) -> None:
        if value is not None and not isinstance(value, Gate):
            raise ValueError(f'gate must be None or a Gate, got {value!r}')
        self._gate = value

    @property
    def by_coverage(self) -> bool:
        """Whether the number of regions differs between images."""
        return False

    @abstractmethod
    def forward_coarse(self, imgs: Tensor) -> CoarseStage:
        """Run the coarse stage on padded images (B, C, H, W)."""

    @abstractmethod
    def forward_fine(self, imgs: Tensor, coarse: CoarseStage) -> FineStage:
        """Run the fine stage on the same images."""

    @abstractmethod
    def count_regions(self, importance: Tensor) -> Tensor:
        """Regions that each image refines if it goes on, (B,) int64."""

    def check_host(self, host: nn.Module) -> None:
        """Refuse, by ValueError, a host that this backbone does not fit."""

    @property
    def exit_threshold(self) -> float | None:
        """η; None never exits, 0 exits always, above 1 never."""
        return self._exit_threshold

    @exit_threshold.setter
    def exit_threshold(self, value: float | None) -> None:
        self._exit_threshold = check_threshold(value)

    @property
    def last_exit(self) -> ExitRecord | None:
        """What the last evaluation forward decided, without gradients."""
        return _last_exits.get(self)

    def _gated(
        self, imgs: Tensor, coarse: CoarseStage
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Refine the unsure images alone and put results back in order."""
        confidence, exited = self.decide(coarse)
        # Indices: every use of a mask would wait for the device again.
        stay = (~exited).nonzero()[:, 0]
        fine = None
        if not len(stay):
            cls, maps = coarse.cls, coarse.maps
        elif len(stay) == len(exited):
            fine = self.forward_fine(imgs, coarse)
            cls, maps = fine.cls, fine.maps
        else:
            fine = self.forward_fine(imgs[stay], coarse.select(stay))
            cls = put_rows(coarse.cls, fine.cls, stay)
            maps = tuple(
                map(partial(put_rows, index=stay), coarse.maps, fine.maps)
            )
        self._hand_out(self.exit_record(coarse, confidence, exited, fine))
        return cls, maps

    def decide(self, coarse: CoarseStage) -> tuple[Tensor | None, Tensor]:
        """Ask the gate who exits at the present threshold.

        Args:
            coarse (CoarseStage): Of :meth:`forward_coarse`.

        Returns:
            tuple[Tensor | None, Tensor]: Confidence, (B,) or None where
            nobody was asked, and who exits, (B,) bool.

        Raises:
            RuntimeError: If nothing could judge, or its head was never
                trained.
        """
        threshold, cls = self.exit_threshold, coarse.cls
        stay = torch.zeros(len(cls), dtype=torch.bool, device=cls.device)
        if self.gate is None:
            if threshold is not None and 0.0 < threshold <= 1.0:
                raise RuntimeError(
                    f'exit_threshold is {threshold} but nothing predicts '
                    'from the coarse stage: set backbone.exit_head, or call '
                    'mmscope.models.scoping.attach_gate(model)'
                )
            return None, ~stay if threshold == 0.0 else stay
        if threshold is None:
            return None, stay
        if 0.0 < threshold <= 1.0:
            self.gate.check_trained()
        confidence = self.gate.confidence(cls, coarse.tokens)
        return confidence, exit_mask(confidence, threshold)

    def exit_record(
        self,
        coarse: CoarseStage,
        confidence: Tensor | None,
        exited: Tensor,
        fine: FineStage | None = None,
    ) -> ExitRecord:
        """Write down what was decided.

        Args:
            coarse (CoarseStage): Of :meth:`forward_coarse`.
            confidence (Tensor | None): Of :meth:`decide`.
            exited (Tensor): Of :meth:`decide`.
            fine (FineStage | None): Of those who go on; None if nobody does,
                or it has not run yet. Defaults to None.

        Returns:
            ExitRecord: Without it, nothing is said to be refined.
        """
        refined = torch.zeros_like(coarse.importance, dtype=torch.bool)
        if fine is not None:
            refined = refined.masked_scatter(~exited[:, None], fine.refined)
        return ExitRecord(
            lengths=coarse.ran.lengths,
            directions=coarse.ran.directions,
            fine_lengths=[] if fine is None else fine.record.lengths,
            grid=coarse.grid,
            confidence=confidence,
            exited=exited,
            coarse_tokens=coarse.ran.lengths[0],
            regions_to_refine=self.count_regions(coarse.importance),
            importance=coarse.importance.unflatten(1, coarse.grid),
            refined=refined.unflatten(1, coarse.grid),
        )

    def _hand_out(self, record: ExitRecord) -> None:
        record = record.detached()
        _last_exits[self] = record
        self.deliver(record)


def _check_meaning(exit_head: nn.Module) -> None:
    """Refuse a head that offers the gate no kind of confidence.

    The hosts' heads, whose meaning is known elsewhere, take tuples of
    features, not the vectors that an exit head judges.
    """
    meaning = getattr(exit_head, 'meaning', None)
    if meaning not in tuple(CONFIDENCES):
        raise ValueError(
            f'exit_head is a {type(exit_head).__name__}, which offers no kind '
            f'of confidence (meaning: {meaning!r}): use '
            "dict(type='mmscope.MultiLabelExitHead', num_classes=20), or a "
            'head that maps vectors (B, D) to logits (B, C) and has an '
            f'attribute meaning, one of {tuple(CONFIDENCES)}'
        )


def is_two_stage(model: nn.Module | type | str) -> bool:
    """Tell whether a model looks coarsely first and may stop there.

    It is asked of host models and backbones, wrapped or not, of classes, and
    of types as configs name them.
    """
    if isinstance(model, str):
        model = MODELS.get(model)
    if isinstance(model, type):
        return issubclass(model, TwoStage)
    if not isinstance(model, nn.Module):
        return False
    model = unwrap_model(model)
    backbone = getattr(model, 'backbone', model)
    return isinstance(model, TwoStage) or isinstance(backbone, TwoStage)
