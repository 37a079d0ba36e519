"""Losses of token reductions, shared by hosts and hook."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmscope.models.layers import Record, gather_tokens
from mmscope.models.reduction import DyVMRecord


class TrainsReduction:
    """Marks hosts whose own losses train the token reduction."""


def only_record(records: Sequence[Record]) -> Record:
    """Take the one record that a training step must leave.

    Raises:
        RuntimeError: If the backbone did not run exactly once.
    """
    if len(records) != 1:
        raise RuntimeError(
            'the losses of a token reduction need one forward of the '
            f'backbone a step, got {len(records)}: run the backbone once in '
            'loss()'
        )
    return records[0]


def kept_token_error(record: DyVMRecord, teacher: Tensor) -> Tensor:
    """Compare the patches that were kept with a teacher's.

    Args:
        record (DyVMRecord): Of a training forward of the student.
        teacher (Tensor): All patches after the teacher's final norm, (B, M,
            D) in raster order.

    Returns:
        Tensor: Mean squared difference over what is kept after the last
        stage, over all patches where there is no stage; scalar, float32.
    """
    policy, positions, tokens = (
        record.token_policy,
        record.positions,
        record.tokens,
    )
    # A training forward fills both.
    assert positions is not None
    assert tokens is not None
    if policy is None:
        policy = torch.ones_like(positions)
    kept = policy.detach() > 0.5
    wanted = gather_tokens(teacher.detach(), positions)
    student, wanted = tokens[kept].float(), wanted[kept].float()
    # Where an image keeps nothing there is nothing to compare.
    return F.mse_loss(student, wanted, reduction='sum') / max(
        student.numel(), 1
    )
