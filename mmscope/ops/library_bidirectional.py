"""The ops that run both directions at once, as ``torch.library`` ops.

``mmscope::bidirectional_conv1d_triton`` and ``bidirectional_scan_triton``
with their ``_backward``. The two directions of every input are stacked along
a first axis, forwards first; only what they share (the convolution's input,
the gate) has none.
"""

from __future__ import annotations

from torch import Size, Tensor

from . import library

CONV = 'bidirectional_conv1d_triton'
SCAN = 'bidirectional_scan_triton'


def _conv_fake(x: Tensor, *args) -> Tensor:
    return x.new_empty((2, *x.shape))


def _scan_fake(
    u: Tensor, delta: Tensor, A: Tensor, *args
) -> tuple[Tensor, Tensor, Tensor]:
    scored, save_states = args[-2:]
    _, batch, seqlen, dim = u.shape
    chunks = -(-seqlen // library.CHUNK)
    states = (2, batch, chunks, A.shape[2], dim)
    return (
        u.new_empty((batch, seqlen, dim)),
        A.new_empty((2, batch, seqlen) if scored else (0,)),
        A.new_empty(states if save_states else (0,)),
    )


def _conv_flops(x_shape: Size, weight_shape: Size, *args, **kwargs) -> int:
    """Count 2 per multiply-add, as PyTorch counts its own convolutions."""
    batch, seqlen, dim = x_shape
    return 2 * 2 * batch * seqlen * dim * weight_shape[2]


def _conv_backward_flops(grad_shape: Size, *args, **kwargs) -> int:
    return 2 * _conv_flops(*args)


def _scan_flops(
    u_shape: Size, delta_shape: Size, A_shape: Size, *args, **kwargs
) -> int:
    one = library._scan_flops(u_shape[1:], delta_shape, A_shape[1:])
    return u_shape[0] * one


def _scan_backward_flops(grad_shape: Size, *args, **kwargs) -> int:
    return 2 * _scan_flops(*args)


def _register_conv() -> None:
    library._define(f'{CONV}({library._CONV_INPUTS}, bool silu) -> Tensor')
    library._define(
        f'{CONV}_backward(Tensor grad, {library._CONV_INPUTS}, bool silu) -> '
        '(Tensor, Tensor, Tensor)'
    )
    library._register_fake(CONV, _conv_fake)
    library._register_fake(f'{CONV}_backward', library._conv_backward_fake)
    library.implement(CONV, ('Autograd',), library._conv_autograd(CONV))
    library._register_flops(CONV)(_conv_flops)
    library._register_flops(f'{CONV}_backward')(_conv_backward_flops)


def _register_scan() -> None:
    library._define(
        f'{SCAN}({library._SCAN_INPUTS}, bool delta_softplus, bool scored, '
        'bool save_states) -> (Tensor, Tensor, Tensor)'
    )
    # Scores have no gradient; one list of options serves both ops.
    library._define(
        f'{SCAN}_backward(Tensor grad, {library._SCAN_INPUTS}, Tensor states, '
        f'bool delta_softplus, bool scored) -> '
        f'({", ".join(["Tensor"] * library._NUM_SCAN_INPUTS)})'
    )
    library._register_fake(SCAN, _scan_fake)
    library._register_fake(f'{SCAN}_backward', library._scan_backward_fake)
    library.implement(SCAN, ('Autograd',), library._scan_autograd(SCAN))
    library._register_flops(SCAN)(_scan_flops)
    library._register_flops(f'{SCAN}_backward')(_scan_backward_flops)


_register_conv()
_register_scan()
