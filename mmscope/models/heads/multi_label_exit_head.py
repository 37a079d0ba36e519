"""Which classes are in the image: the exit head of dense tasks."""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmscope.models.heads.confidence import MAP, check_confidence
from mmscope.models.layers import check_weight, check_whole
from mmscope.registry import MODELS


@MODELS.register_module()
class MultiLabelExitHead(BaseModule):
    """Predict from a cls token which classes are present.

    The image-level auxiliary classifier of MambaScope (arXiv:2512.00647,
    appendix A), supervised by the labels found in the image's annotation.
    One set of weights serves the coarse and the fine stage.

    It may have a map as well, a linear 1 x 1 layer on the coarse tokens that
    predicts which class each cell shows: a softmax over K classes, trained
    on the share of the cell that each has (:func:`cell_targets`). K is C in
    segmentation. In detection it is C + 1, the last for cells without
    objects; this stands in for the presence of classes in a cell, because a
    largest probability needs a distribution. The kind of confidence 'map' is
    its mean largest probability (:func:`map_confidence`).

    Example::

        exit_head = dict(
            type='mmscope.MultiLabelExitHead',
            num_classes=150,
            confidence='mean_present',
        )

    Args:
        num_classes (int): Classes C.
        in_channels (int): Channels D of the cls token; the backbone fills it
            in.
        confidence (str): See :func:`multi_label_confidence`, or 'map'.
            Defaults to 'mean_present'.
        loss_weight (float): w_e of the two label losses. Defaults to 0.4.
        distill_weight (float): w_k of the loss that brings the coarse to the
            fine prediction. Defaults to 0.4.
        map_loss_weight (float | None): Weight of the loss of the map; None
            for no map, or with confidence 'map' for 0.4. Defaults to None.
        map_nothing (bool): Whether the map has a class 'nothing', the last:
            True for detection. Defaults to False.
        init_cfg (dict | None): MMEngine initialisation. Defaults to None.

    Raises:
        ValueError: If ``confidence``, ``num_classes`` or a weight is
            invalid, a map has one class only, or there is none for
            ``map_nothing``.
    """

    # What the gate asks.
    meaning = 'multi_label'
    num_updates: Tensor
    num_map_updates: Tensor
    fc_map: nn.Linear

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        confidence: str = 'mean_present',
        loss_weight: float = 0.4,
        distill_weight: float = 0.4,
        map_loss_weight: float | None = None,
        map_nothing: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes = check_whole('num_classes', num_classes)
        self.kind = check_confidence(confidence, self.meaning, with_map=True)
        self.loss_weight = check_weight('loss_weight', loss_weight)
        self.distill_weight = check_weight('distill_weight', distill_weight)
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)
        # Saved with the weights: tells a trained head from a fresh one.
        self.register_buffer('num_updates', torch.zeros((), dtype=torch.long))
        if map_loss_weight is None and confidence == MAP:
            map_loss_weight = 0.4
        self.map_loss_weight, self.map_nothing = map_loss_weight, map_nothing
        if self.has_map:
            self._add_map(in_channels)
        elif map_nothing:
            raise ValueError(
                "map_nothing=True is a class of a map: set confidence='map' "
                'or a map_loss_weight, or leave it out'
            )

    def _add_map(self, in_channels: int) -> None:
        check_weight('map_loss_weight', self.map_loss_weight)
        if self.map_classes < 2:
            raise ValueError(
                'a map tells classes apart, so num_classes must be >= 2, or '
                f'map_nothing=True; got num_classes={self.num_classes}'
            )
        self.fc_map = nn.Linear(in_channels, self.map_classes)
        nn.init.trunc_normal_(self.fc_map.weight, std=0.02)
        nn.init.zeros_(self.fc_map.bias)
        # Its own: a checkpoint may come from a head without a map.
        count = torch.zeros((), dtype=torch.long)
        self.register_buffer('num_map_updates', count)

    @property
    def has_map(self) -> bool:
        """Whether the head also predicts the classes of coarse cells."""
        return self.map_loss_weight is not None

    @property
    def map_classes(self) -> int:
        """Classes K of a cell, 'nothing' included."""
        return self.num_classes + int(self.map_nothing)

    @property
    def is_trained(self) -> bool:
        """Whether this head, or the checkpoint it came from, was trained.

        With a map, both parts; a gate asks for the one that it reads.
        """
        parts = ('', MAP) if self.has_map else ('',)
        return all(map(self.is_trained_for, parts))

    def is_trained_for(self, kind: str) -> bool:
        """Tell whether the part was trained that a kind of confidence asks."""
        count = self.num_map_updates if kind == MAP else self.num_updates
        return bool(count > 0)

    def forward(self, cls: Tensor) -> Tensor:
        """Predict presence.

        Args:
            cls (Tensor): Tokens after the final norm, (B, D).

        Returns:
            Tensor: Logits, (B, C).
        """
        return self.fc(cls)

    def map_logits(self, tokens: Tensor) -> Tensor:
        """Predict which class each coarse cell shows; needs the map.

        Args:
            tokens (Tensor): Coarse tokens after the final norm, (B, n, D).

        Returns:
            Tensor: Logits, (B, n, K).
        """
        return self.fc_map(tokens)

    def loss(
        self, coarse_cls: Tensor, fine_cls: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the exit prediction (DESIGN: w_e and w_k terms).

        Args:
            coarse_cls (Tensor): (B, D).
            fine_cls (Tensor): (B, D).
            targets (Tensor): 1 where a class is present, else 0, (B, C);
                NaN rows are images without any label and do not count.

        Returns:
            dict[str, Tensor]: Weighted scalars.
        """
        labelled = ~targets.isnan().any(1)
        self._count('num_updates', self.fc, self.loss_weight, labelled)
        targets = targets.nan_to_num(0.0)
        coarse, fine = self(coarse_cls).float(), self(fine_cls).float()

        def mean_bce(logits: Tensor, wanted: Tensor) -> Tensor:
            bce = F.binary_cross_entropy_with_logits(
                logits, wanted, reduction='none'
            ).mean(1)
            return (bce * labelled).sum() / labelled.sum().clamp(min=1)

        distilled = mean_bce(coarse, fine.detach().sigmoid())
        return {
            'loss_exit_coarse': self.loss_weight * mean_bce(coarse, targets),
            'loss_exit_fine': self.loss_weight * mean_bce(fine, targets),
            'loss_exit_distill': self.distill_weight * distilled,
        }

    def map_loss(self, tokens: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the map, mean over the cells of the batch.

        Args:
            tokens (Tensor): Coarse tokens after the final norm, (B, n, D).
            targets (Tensor): Share of each cell by class, (B, n, K); NaN
                rows are cells without any label and do not count.

        Returns:
            dict[str, Tensor]: ``loss_exit_map``, a weighted scalar.
        """
        assert self.map_loss_weight is not None
        labelled = ~targets.isnan().any(-1)
        self._count(
            'num_map_updates', self.fc_map, self.map_loss_weight, labelled
        )
        log_probs = self.map_logits(tokens).float().log_softmax(-1)
        entropy = -(targets.nan_to_num(0.0) * log_probs).sum(-1)
        mean = (entropy * labelled).sum() / labelled.sum().clamp(min=1)
        return {'loss_exit_map': self.map_loss_weight * mean}

    def _count(
        self, counter: str, part: nn.Module, weight: float, labelled: Tensor
    ) -> None:
        """Count an update, if the loss teaches a part anything."""
        learns = any(param.requires_grad for param in part.parameters())
        if learns and weight > 0 and torch.is_grad_enabled():
            # No branch: the labels lie on a device.
            getattr(self, counter).add_(labelled.any())

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any
    ) -> None:
        self._check_marker(state_dict, prefix, 'num_updates', 'fc')
        if self.has_map:
            self._check_marker(state_dict, prefix, 'num_map_updates', 'fc_map')
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check_marker(
        self,
        state_dict: dict[str, Tensor],
        prefix: str,
        counter: str,
        name: str,
    ) -> None:
        """Let a part count as trained only if all its weights come along.

        Whoever loads what fits (``strict=False``, MMEngine) would take the
        counter of weights that it leaves out.
        """
        own = getattr(self, name).state_dict(prefix=f'{prefix}{name}.')
        shapes = {
            key: getattr(state_dict.get(key), 'shape', None) for key in own
        }
        odd = [key for key in own if shapes[key] != own[key].shape]
        # Where no weight comes, the head and what it says stay as they are.
        nothing = len(odd) == len(own)
        if not odd or (nothing and prefix + counter not in state_dict):
            return
        count = getattr(self, counter)
        state_dict[prefix + counter] = count if nothing else count * 0
        found = shapes[odd[0]]
        print_log(
            f'{odd[0]} is {"absent" if found is None else tuple(found)} in '
            f'the checkpoint, expected {tuple(own[odd[0]].shape)}: what it '
            f'says of {counter} is not taken, it would be of other weights',
            logger='current',
            level=logging.WARNING,
        )
