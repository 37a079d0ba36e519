"""What one call of an operator costs, from the shapes of its tensors.

The unit is that of :mod:`mmscope.analysis.costs`: multiply-adds of a product,
operations of the selective scan. PyTorch's own counter takes formulas from
torch 2.4 on only, and counts two per multiply-add.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch._ops import OpOverload

from mmscope.models import CoarseToFine
from mmscope.models.layers import scan_cost

Formula = Callable[[Sequence[Any], Tensor], int]

SCAN = re.compile(r'mmscope\.(selective|bidirectional)_scan_(?!.*_backward$)')
ATTENTION = re.compile(
    r'aten\._scaled_dot_product_(?!.*(_backward|_math)$)\w*attention'
)
# Counted for what a scope pools itself, which is the detail score.
POOLING = 'aten.avg_pool2d'
CAUSAL_CONV = re.compile(r'mmscope\.causal_conv1d_(?!.*_backward$)')


def op_name(func: OpOverload) -> str:
    """Name an operator without its overload, such as 'aten.mm'."""
    return f'{func.namespace}.{func.overloadpacket.__name__}'


def is_scan(name: str) -> bool:
    """Tell whether an operator is a selective scan of any backend."""
    return SCAN.match(name) is not None


def formula_of(name: str, module: nn.Module | None = None) -> Formula | None:
    """Look up how an operator's cost follows from arguments and first output.

    Args:
        name (str): Of :func:`op_name`.
        module (nn.Module | None): The innermost around it. Defaults to None.

    Returns:
        Formula | None: None for one that is not counted.
    """
    if name == POOLING and isinstance(module, CoarseToFine):
        return _detail
    if is_scan(name):
        return _scan
    if CAUSAL_CONV.match(name):
        return _causal_conv
    if ATTENTION.match(name):
        return _attention
    return _PRODUCTS.get(name)


def _detail(args: Sequence[Any], output: Tensor) -> int:
    # Each value of the image, squared, joins a mean.
    return args[0].numel()


def _product(first: int) -> Formula:
    # (..., n, m) times (..., m, p): m multiply-adds an output value.
    def count(args: Sequence[Any], output: Tensor) -> int:
        return output.numel() * args[first].shape[-1]

    return count


def _convolution(args: Sequence[Any], output: Tensor) -> int:
    inputs, weight, transposed = args[0], args[1], args[6]
    # A transposed one spreads each input value over a kernel for each of its
    # group's outputs; the weight's last dimensions are the fan in both.
    values = inputs if transposed else output
    return values.numel() * math.prod(weight.shape[1:])


def _attention(args: Sequence[Any], output: Tensor) -> int:
    # Queries with keys, then weights with values; whatever kernel it is.
    query, key, value = args[:3]
    pairs = query.shape[:-1].numel() * key.shape[-2]
    return pairs * (query.shape[-1] + value.shape[-1])


def _causal_conv(args: Sequence[Any], output: Tensor) -> int:
    return output.numel() * args[1].shape[1]


def _scan(args: Sequence[Any], output: Tensor) -> int:
    batch, seqlen, dim = args[0].shape
    return scan_cost(batch * seqlen, dim, args[2].shape[1])


_PRODUCTS: dict[str, Formula] = {
    'aten.addbmm': lambda args, output: args[1].numel() * args[2].shape[-1],
    'aten.addmm': _product(1),
    'aten.addmv': _product(1),
    'aten.baddbmm': _product(1),
    'aten.bmm': _product(0),
    'aten.convolution': _convolution,
    'aten.dot': lambda args, output: args[0].numel(),
    'aten.linear': _product(0),
    'aten.mm': _product(0),
    'aten.mv': _product(0),
    'aten.vdot': lambda args, output: args[0].numel(),
}
