"""Mamba-Reg: Vision Mamba with registers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmscope.models.backbones.arguments import ARCHS
from mmscope.models.backbones.embedding import POSITIONS
from mmscope.models.backbones.vim import VisionMamba
from mmscope.models.layers import PositionTable, RMSNorm, SummaryTokens
from mmscope.models.layers.position import NO_SUMMARY
from mmscope.models.reduction.settings import whole
from mmscope.registry import MODELS

# What a register's channels are divided by, as released.
CLS_REDUCE = {'tiny': 1, 'small': 2, 'base': 4, 'large': 8}


@MODELS.register_module()
class MambaReg(VisionMamba):
    """Vision Mamba with registers woven in evenly, in the place of cls.

    Mamba-Reg, arXiv:2405.14858. Register j of m stands at
    ``(n // (m + 1) + 1) * (j + 1) - 1`` among n patches and has a position
    of its own, ``pos_embed_cls``. What 'cls_token' gives are the registers
    after the final norm, each narrowed by ``neck`` where ``cls_reduce`` is
    above 1, side by side, and normed by ``norm_neck``. For 'featmap' both are
    absent, and exit heads see the registers' mean. Scopes weave the same
    registers into both stages.

    Example::

        backbone = dict(type='mmscope.MambaReg', arch='small')
        # 12 registers of 384 / 2 channels each
        head = dict(type='LinearClsHead', in_channels=2304)

    Args:
        arch (str | dict): 'tiny', 'small', 'base', 'large' or a dict of
            sizes. Defaults to 'tiny'.
        num_registers (int): Registers m, at least 1; the released large
            model has 16. Defaults to 12.
        cls_reduce (int | None): What the channels of each register are
            divided by for 'cls_token'; None for 1, 2, 4, 8 in tiny, small,
            base, large, and 1 for sizes in a dict. Defaults to None.
        **vim (Any): Of :class:`VisionMamba`, without ``summary_position``.

    Raises:
        ValueError: If there is no register, or the channels cannot be
            divided.
    """

    archs = {**ARCHS, 'large': {'embed_dims': 1024, 'num_layers': 48}}
    family = 'Mamba-Reg'
    # Registers have no entry in the table of positions.
    released_summary = NO_SUMMARY

    def __init__(
        self,
        arch: str | dict[str, Any] = 'tiny',
        *,
        num_registers: int = 12,
        cls_reduce: int | None = None,
        **vim: Any,
    ) -> None:
        self.num_registers = whole('registers', 1)(
            'num_registers', num_registers
        )
        if 'summary_position' in vim:
            raise ValueError(
                f'summary_position={vim["summary_position"]!r}: Mamba-Reg '
                'weaves its registers in evenly; leave it out'
            )
        super().__init__(arch, summary_position='woven', **vim)
        if cls_reduce is None:
            cls_reduce = CLS_REDUCE[arch] if isinstance(arch, str) else 1
        self.cls_reduce = whole('shares', 1)('cls_reduce', cls_reduce)
        if self.embed_dims % self.cls_reduce:
            raise ValueError(
                f'cls_reduce={cls_reduce} does not divide the '
                f'{self.embed_dims} channels of a register: choose a divisor'
            )
        if self.has_neck:
            reduced = self.embed_dims // self.cls_reduce
            self.neck = nn.Linear(self.embed_dims, reduced, bias=False)
            nn.init.trunc_normal_(self.neck.weight, std=0.02)
            self.norm_neck = RMSNorm(self.summary_dims)

    def summary_of(self, position: str) -> SummaryTokens:
        """Make the registers."""
        return SummaryTokens(position, self.num_registers)

    @property
    def has_neck(self) -> bool:
        """Whether registers are narrowed before they stand side by side."""
        return self.out_type == 'cls_token' and self.cls_reduce > 1

    def _add_embeddings(self) -> None:
        shape = 1, self.num_registers, self.embed_dims
        self.cls_token = nn.Parameter(torch.empty(shape))
        self.pos_embed_cls = nn.Parameter(torch.empty(shape))
        self.add_table(POSITIONS, PositionTable(self.grid, NO_SUMMARY))

    def summary_embedding(self, position: Tensor) -> Tensor:
        """Give the registers their positions, in any grid: (1, m, D)."""
        return self.cls_token + self.pos_embed_cls

    def embedding_names(self) -> tuple[str, ...]:
        """Names of parameters and modules that embed images."""
        return (*super().embedding_names(), 'pos_embed_cls')

    def read_out(self, summary: Tensor) -> Tensor:
        """Turn the registers after the final norm into one vector.

        Args:
            summary (Tensor): (B, m, D).

        Returns:
            Tensor: (B, m * D / ``cls_reduce``); for 'featmap' their mean,
            (B, D).
        """
        if self.out_type != 'cls_token':
            return summary.mean(1)
        if not self.has_neck:
            return summary.flatten(1)
        return self.norm_neck(self.neck(summary).flatten(1))

    @property
    def summary_dims(self) -> int:
        """Channels of :meth:`read_out`."""
        if self.out_type != 'cls_token':
            return self.embed_dims
        return self.num_registers * (self.embed_dims // self.cls_reduce)

    def read_out_macs(self) -> int:
        """Count the multiply-accumulates of the neck."""
        return self.embed_dims * self.summary_dims if self.has_neck else 0

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object
    ) -> None:
        neck = state_dict.get(f'{prefix}neck.weight')
        vector = self.out_type == 'cls_token'
        if neck is not None and vector and not self.has_neck:
            raise ValueError(
                'the checkpoint narrows its registers (neck.weight), and this '
                'model does not: build it with '
                f'cls_reduce={self.embed_dims // len(neck)}'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)
