"""Comparisons and inputs that the tests of this package share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

# Relative root mean square error that rounding in a dtype explains: a few
# units in the last place, times what sums over tokens and channels add.
RELATIVE_RMS = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.float16: 2e-3,
    torch.bfloat16: 1e-2,
}


def relative_rms(actual: Tensor, expected: Tensor) -> float:
    """Return the error's root mean square over that of the expected values.

    Args:
        actual (Tensor): Computed values, any shape.
        expected (Tensor): True values, same shape.

    Returns:
        float: The ratio; where all expected values are zero, the error's root
        mean square itself.
    """
    expected = expected.detach().double()
    error = (actual.detach().double() - expected).square().mean().sqrt()
    scale = expected.square().mean().sqrt()
    return (error / scale if scale > 0 else error).item()


def assert_close(
    name: str, actual: Tensor, expected: Tensor, dtype: torch.dtype
) -> None:
    """Compare a tensor with the truth, by relative root mean square error.

    Args:
        name (str): What is compared, for the message.
        actual (Tensor): Computed values.
        expected (Tensor): True values, usually of a wider dtype.
        dtype (torch.dtype): Dtype of the inputs, which sets the tolerance.

    Raises:
        AssertionError: If shapes differ, a value is not finite or the error
            is too large.
    """
    assert actual.shape == expected.shape, (
        f'{name}: shape {tuple(actual.shape)}, expected '
        f'{tuple(expected.shape)}'
    )
    if expected.numel() == 0:
        return
    assert torch.isfinite(actual).all(), f'{name}: not all values are finite'
    error = relative_rms(actual, expected)
    assert error <= RELATIVE_RMS[dtype], (
        f'{name}: relative RMS error {error:.2e}, at most '
        f'{RELATIVE_RMS[dtype]:.0e} for {dtype}'
    )


def scan_inputs(
    batch: int = 2,
    seqlen: int = 7,
    dim: int = 5,
    d_state: int = 4,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    device: torch.device | str = 'cpu',
) -> dict[str, Tensor]:
    """Draw all inputs of a selective scan, with float32 parameters.

    Args:
        batch (int): Sequences. Defaults to 2.
        seqlen (int): Tokens. Defaults to 7.
        dim (int): Channels. Defaults to 5.
        d_state (int): States of a channel. Defaults to 4.
        dtype (torch.dtype): Dtype of the sequences. Defaults to float32.
        seed (int): Seed of the draw. Defaults to 0.
        device (torch.device | str): Where it is drawn. Defaults to 'cpu'.

    Returns:
        dict[str, Tensor]: The tensors by the names of their arguments.
    """
    options = draw_options(seed, device)
    draw = partial(torch.randn, **options)
    return dict(
        u=draw(batch, seqlen, dim).to(dtype),
        delta=draw(batch, seqlen, dim).to(dtype),
        A=-torch.rand(dim, d_state, **options) * 4,
        B=draw(batch, seqlen, d_state).to(dtype),
        C=draw(batch, seqlen, d_state).to(dtype),
        D=draw(dim),
        z=draw(batch, seqlen, dim).to(dtype),
        delta_bias=draw(dim),
    )


def conv_inputs(
    batch: int = 2,
    seqlen: int = 7,
    dim: int = 5,
    width: int = 4,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    device: torch.device | str = 'cpu',
) -> dict[str, Tensor]:
    """Draw all inputs of a causal convolution, with float32 parameters.

    Args:
        batch (int): Sequences. Defaults to 2.
        seqlen (int): Tokens. Defaults to 7.
        dim (int): Channels. Defaults to 5.
        width (int): Taps of a channel. Defaults to 4.
        dtype (torch.dtype): Dtype of the sequences. Defaults to float32.
        seed (int): Seed of the draw. Defaults to 0.
        device (torch.device | str): Where it is drawn. Defaults to 'cpu'.

    Returns:
        dict[str, Tensor]: The tensors by the names of their arguments.
    """
    draw = partial(torch.randn, **draw_options(seed, device))
    return dict(
        x=draw(batch, seqlen, dim).to(dtype),
        weight=draw(dim, width),
        bias=draw(dim),
    )


def draw_options(seed: int, device: torch.device | str) -> dict[str, Any]:
    """Return what a drawing function of torch takes."""
    generator = torch.Generator(device).manual_seed(seed)
    return {'generator': generator, 'device': device}


def run_with_grads(
    function: Callable[..., Tensor],
    inputs: dict[str, Tensor],
    **options: object,
) -> dict[str, Tensor]:
    """Run a function forwards and backwards.

    Args:
        function (Callable): Called with all inputs and options by name.
        inputs (dict[str, Tensor]): Tensors; each gets a gradient.
        **options (object): What else the function takes.

    Returns:
        dict[str, Tensor]: The output as ``out`` and each input's gradient,
        for a random but fixed gradient of the output.
    """
    leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
    out = function(**leaves, **options)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(out.shape, generator=generator)
    grads = torch.autograd.grad(out, list(leaves.values()), grad.to(out))
    return dict(out=out.detach(), **dict(zip(leaves, grads, strict=True)))


def doubled(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs in float64, the truth's dtype."""
    return {name: x.double() for name, x in inputs.items()}
