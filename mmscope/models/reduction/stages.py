"""What each stage of a token reduction leaves in the record."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class ReductionStage:
    """One shortening of the sequence.

    Attributes:
        kept (Tensor | None): Raster indices of the patches that are left,
            (B, k) int64, ascending; summary tokens are not counted. None
            where tokens are merged. Defaults to None.
        group_of_input (Tensor | None): Place, after this stage, of the token
            that stands for each token of the embedded sequence, (B, L0)
            int64, summary tokens included. None where tokens are pruned.
            Defaults to None.
    """

    kept: Tensor | None = None
    group_of_input: Tensor | None = None
