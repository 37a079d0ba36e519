"""The operators as ``torch.library`` ops: schemas, shapes, gradients, FLOPs.

Each backend of the scan has an op ``mmscope::selective_scan_<backend>`` and
its ``_backward``, with one schema for all. So compilers, profilers and FLOP
counters see a call, whatever computes it. The ops for both directions at once
are in ``library_bidirectional.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Size, Tensor

from .reference import causal_conv1d_reference, selective_scan_reference
from .transforms import refuse_tangents, second_gradients

SCAN_BACKENDS = ('reference', 'cpu', 'triton', 'mamba_ssm')
# Those with an op for the convolution; the reference is F.conv1d's.
CONV_BACKENDS = ('cpu', 'triton')
# Those whose forward saves states for the backward.
SAVING_BACKENDS = ('cpu', 'triton')

_SCAN_INPUTS = (
    'Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, '
    'Tensor? z, Tensor? delta_bias'
)
_CONV_INPUTS = 'Tensor x, Tensor weight, Tensor? bias'
_NUM_SCAN_INPUTS = 8
_NUM_CONV_INPUTS = 3

# Tokens between two saved states, in the C++ kernels (kChunk in kernels.h)
# and in Triton's.
CHUNK = 16

_library = torch.library.Library('mmscope', 'FRAGMENT')


def _define(schema: str) -> None:
    # Both names appeared after torch 2.1, which has no use for the tag.
    tag = getattr(torch.Tag, 'pt2_compliant_tag', None)
    if tag is None:
        _library.define(schema)
    else:
        _library.define(schema, tags=(tag,))


def _register_fake(name: str, fake: Callable) -> None:
    register = getattr(torch.library, 'register_fake', None)
    # torch 2.2 and 2.3 have it under another name. For 2.1 a kernel for the
    # meta device does the same.
    register = register or getattr(torch.library, 'impl_abstract', None)
    if register is None:
        _library.impl(name, fake, 'Meta')
    else:
        register(f'mmscope::{name}', fake)


def _register_flops(name: str) -> Callable:
    try:
        from torch.utils.flop_counter import register_flop_formula
    except ImportError:  # torch 2.1 cannot take formulas
        return lambda formula: formula
    return register_flop_formula(getattr(torch.ops.mmscope, name))


def op(name: str) -> Callable:
    """Return an operator of this library by name."""
    return getattr(torch.ops.mmscope, name).default


def implement(name: str, keys: tuple[str, ...], function: Callable) -> None:
    """Give an operator its kernel for dispatch keys such as 'CPU'."""
    for key in keys:
        _library.impl(name, function, key)


def _needs_grad(inputs: tuple[Tensor | None, ...]) -> bool:
    return torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in inputs
    )


def _wanted(grads: tuple[Tensor, ...], ctx: Any) -> list[Tensor | None]:
    """Drop the gradients that nobody asked for."""
    needed = ctx.needs_input_grad[: len(grads)]
    return [
        g if wanted else None for g, wanted in zip(grads, needed, strict=True)
    ]


# --------------------------------------------------------------------- scan


def _scan_autograd(name: str, composed: Callable | None = None) -> Callable:
    """Return the Autograd kernel of the scan op ``name``.

    Its first output has a gradient, its last one is what the backward needs.
    ``composed`` computes the first one of PyTorch's operations, for second
    derivatives.
    """
    forward_op, backward_op = op(name), op(f'{name}_backward')

    class Scan(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args) -> tuple[Tensor, ...]:
            inputs = args[:_NUM_SCAN_INPUTS]
            ctx.options = args[_NUM_SCAN_INPUTS:]
            with torch._C._AutoDispatchBelowAutograd():
                outputs = forward_op(*inputs, *ctx.options, True)
            ctx.save_for_backward(*inputs, outputs[-1])
            ctx.mark_non_differentiable(*outputs[1:])
            ctx.set_materialize_grads(False)
            return outputs

        @staticmethod
        def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple:
            none = [None] * len(ctx.options)
            if grad is None:
                return (*[None] * _NUM_SCAN_INPUTS, *none)
            if torch.is_grad_enabled():
                inputs = ctx.saved_tensors[:_NUM_SCAN_INPUTS]
                needed = ctx.needs_input_grad
                twice = second_gradients(
                    name, composed, grad, inputs, ctx.options, needed
                )
                return (*twice, *none)
            grads = backward_op(grad, *ctx.saved_tensors, *ctx.options)
            return (*_wanted(grads, ctx), *none)

    def autograd(*args) -> tuple[Tensor, ...]:
        refuse_tangents(name, args[:_NUM_SCAN_INPUTS])
        if _needs_grad(args[:_NUM_SCAN_INPUTS]):
            # The states are saved whatever the caller said.
            return Scan.apply(*args[: _NUM_SCAN_INPUTS + 2])
        with torch._C._AutoDispatchBelowAutograd():
            return forward_op(*args)

    return autograd


def _scan_fake(saves_states: bool) -> Callable:
    def fake(
        u: Tensor, delta: Tensor, A: Tensor, *args
    ) -> tuple[Tensor, Tensor]:
        save_states = args[-1]
        batch, seqlen, dim = u.shape
        shape: tuple[int, ...] = (0,)
        if saves_states and save_states:
            chunks = (seqlen + CHUNK - 1) // CHUNK
            shape = (batch, chunks, A.shape[1], dim)
        states = u.new_empty(shape, dtype=torch.float32)
        return u.new_empty(u.shape), states

    return fake


def _gradients_like(
    grad: Tensor, inputs: tuple[Tensor | None, ...]
) -> tuple[Tensor, ...]:
    # An absent input has an empty gradient: an op returns tensors only.
    return tuple(
        grad.new_empty((0,)) if x is None else x.new_empty(x.shape)
        for x in inputs
    )


def _scan_backward_fake(grad: Tensor, *args) -> tuple[Tensor, ...]:
    return _gradients_like(grad, args[:_NUM_SCAN_INPUTS])


def _scan_flops(
    u_shape: Size, delta_shape: Size, A_shape: Size, *args, **kwargs
) -> int:
    """Count the operations of one scan in one direction.

    The unit of the paper (and of VMamba): 9 operations per token, channel and
    state, 2 per token and channel for the skip and the gate. These are
    operations already, unlike the multiply-adds of a matrix product, which
    PyTorch counts twice: do not halve this term to get MACs.
    """
    batch, seqlen, dim = u_shape
    return batch * (9 * seqlen * dim * A_shape[1] + 2 * seqlen * dim)


def _scan_backward_flops(grad_shape: Size, *args, **kwargs) -> int:
    # Twice the forward, as PyTorch counts a matrix product's backward.
    return 2 * _scan_flops(*args)


def _register_scan(backend: str) -> None:
    name = f'selective_scan_{backend}'
    _define(
        f'{name}({_SCAN_INPUTS}, bool delta_softplus, bool reverse, '
        'bool save_states) -> (Tensor, Tensor)'
    )
    _define(
        f'{name}_backward(Tensor grad, {_SCAN_INPUTS}, Tensor states, '
        f'bool delta_softplus, bool reverse) -> '
        f'({", ".join(["Tensor"] * _NUM_SCAN_INPUTS)})'
    )
    _register_fake(name, _scan_fake(saves_states=backend in SAVING_BACKENDS))
    _register_fake(f'{name}_backward', _scan_backward_fake)
    autograd = _scan_autograd(name, selective_scan_reference)
    implement(name, ('Autograd',), autograd)
    _register_flops(name)(_scan_flops)
    _register_flops(f'{name}_backward')(_scan_backward_flops)


# -------------------------------------------------------------- convolution


def _conv_autograd(name: str, composed: Callable | None = None) -> Callable:
    """Return the Autograd kernel of the convolution op ``name``."""
    forward_op, backward_op = op(name), op(f'{name}_backward')

    class Conv(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args) -> Tensor:
            inputs = args[:_NUM_CONV_INPUTS]
            ctx.options = args[_NUM_CONV_INPUTS:]
            ctx.save_for_backward(*inputs)
            with torch._C._AutoDispatchBelowAutograd():
                return forward_op(*args)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple:
            if torch.is_grad_enabled():
                inputs, needed = ctx.saved_tensors, ctx.needs_input_grad
                twice = second_gradients(
                    name, composed, grad, inputs, ctx.options, needed
                )
                return (*twice, *[None] * len(ctx.options))
            grads = backward_op(grad, *ctx.saved_tensors, *ctx.options)
            return (*_wanted(grads, ctx), *[None] * len(ctx.options))

    def autograd(*args) -> Tensor:
        refuse_tangents(name, args[:_NUM_CONV_INPUTS])
        if _needs_grad(args[:_NUM_CONV_INPUTS]):
            return Conv.apply(*args)
        with torch._C._AutoDispatchBelowAutograd():
            return forward_op(*args)

    return autograd


def _composed_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> Tensor:
    activation = 'silu' if silu else None
    return causal_conv1d_reference(x, weight, bias, activation, reverse)


def _conv_fake(x: Tensor, *args) -> Tensor:
    return x.new_empty(x.shape)


def _conv_backward_fake(grad: Tensor, *args) -> tuple[Tensor, ...]:
    return _gradients_like(grad, args[:_NUM_CONV_INPUTS])


def _conv_flops(x_shape: Size, weight_shape: Size, *args, **kwargs) -> int:
    """Count 2 per multiply-add, as PyTorch counts its own convolutions."""
    batch, seqlen, dim = x_shape
    return 2 * batch * seqlen * dim * weight_shape[1]


def _conv_backward_flops(grad_shape: Size, *args, **kwargs) -> int:
    return 2 * _conv_flops(*args)


def _register_conv(backend: str) -> None:
    name = f'causal_conv1d_{backend}'
    _define(f'{name}({_CONV_INPUTS}, bool silu, bool reverse) -> Tensor')
    _define(
        f'{name}_backward(Tensor grad, {_CONV_INPUTS}, bool silu, '
        'bool reverse) -> (Tensor, Tensor, Tensor)'
    )
    _register_fake(name, _conv_fake)
    _register_fake(f'{name}_backward', _conv_backward_fake)
    implement(name, ('Autograd',), _conv_autograd(name, _composed_conv))
    _register_flops(name)(_conv_flops)
    _register_flops(f'{name}_backward')(_conv_backward_flops)


for _backend in SCAN_BACKENDS:
    _register_scan(_backend)
for _backend in CONV_BACKENDS:
    _register_conv(_backend)
