"""Whether derivatives are taken that only PyTorch's own operations have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

# torch 2.1 has no such question; nor does it compile transforms.
_is_compiling = getattr(torch.compiler, 'is_compiling', lambda: False)


def is_transformed() -> bool:
    """Tell whether forward-mode AD or a transform of torch.func is at work.

    Kernels of our own have gradients; a tangent would be lost in them, in
    silence, and transforms do not pass through them at all. What is composed
    of PyTorch's operations has every derivative.

    Returns:
        bool: True inside ``forward_ad.dual_level``, ``torch.func.jvp``,
        ``jacfwd``, ``grad``, ``vmap`` and the like.
    """
    if _is_compiling():
        return False
    return _in_forward_mode() or (
        torch._C._functorch.peek_interpreter_stack() is not None
    )


def _in_forward_mode() -> bool:
    return forward_ad._current_level >= 0


def _has_tangent(x: Tensor | None) -> bool:
    if x is None or not x.is_floating_point():
        return False
    return forward_ad.unpack_dual(x).tangent is not None


def refuse_tangents(name: str, inputs: Sequence[Tensor | None]) -> None:
    """Refuse what an operator would drop, by those who call it by itself.

    Raises:
        RuntimeError: If one of them carries a tangent.
    """
    if _in_forward_mode() and any(map(_has_tangent, inputs)):
        raise RuntimeError(
            f'mmscope::{name} has no forward-mode derivative: call '
            'mmscope.ops.selective_scan, or a model, with '
            "scan_backend='auto' or 'reference'"
        )


def second_gradients(
    name: str,
    composed: Callable[..., Tensor] | None,
    grad: Tensor,
    inputs: Sequence[Tensor | None],
    options: Sequence[object],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Compute gradients that have gradients themselves.

    Args:
        name (str): Operator, for the message.
        composed (Callable | None): The same function of PyTorch's own
            operations.
        grad (Tensor): Gradient of its output.
        inputs (Sequence[Tensor | None]): Its tensors.
        options (Sequence[object]): Its other arguments.
        needed (Sequence[bool]): Which inputs want a gradient.

    Returns:
        list[Tensor | None]: One for each input.

    Raises:
        RuntimeError: If there is no such function.
    """
    if composed is None:
        raise RuntimeError(
            f'mmscope::{name} has no second derivative: build the model with '
            "scan_backend='reference', or call the function with that backend"
        )
    needed = needed[: len(inputs)]
    wanted = [x for x, need in zip(inputs, needed, strict=True) if need]
    found = iter(
        torch.autograd.grad(
            composed(*inputs, *options),
            [x for x in wanted if x is not None],
            grad,
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if need else None for need in needed]
