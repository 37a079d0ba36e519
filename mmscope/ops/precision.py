"""Precisions of what must not be rounded."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Bring to float32, or leave in float64, for checks."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
