"""Adapter to the CUDA scan of the mamba-ssm package.

The only place that transposes: that scan wants (batch, dim, seqlen).
"""

from __future__ import annotations

import importlib

from torch import Tensor

INSTALL_COMMAND = (
    "pip install --no-build-isolation 'mamba-ssm>=2.2,<=2.3.1' "
    '(a CUDA machine with the toolkit of the running torch)'
)


# What `probe` found, once it was asked: torch.compile cannot trace an import.
_found: list[str | None] = []


def why_not_installed() -> str | None:
    """Return what the first :func:`probe` of this process found."""
    if not _found:
        _found.append(probe())
    return _found[0]


def probe() -> str | None:
    """Probe the modules, not a version: releases differ in what they ship.

    Returns:
        str | None: None if the scan can be imported, else the reason and the
        command that fixes it.
    """
    for module in (
        'selective_scan_cuda',
        'mamba_ssm.ops.selective_scan_interface',
    ):
        try:
            importlib.import_module(module)
        except ImportError as error:
            return (
                f'{module} cannot be imported ({error}); install it: '
                f'{INSTALL_COMMAND}'
            )
    return None


def selective_scan_mamba_ssm(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    reverse: bool = False,
) -> Tensor:
    """Compute the scan by mamba-ssm; see :func:`mmscope.ops.selective_scan`.

    Returns:
        Tensor: Output (batch, seqlen, dim) in the dtype of ``u``.
    """
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    def channels_first(x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        x = x.to(u.dtype)
        # Its last stride must be 1, so the transposition has to copy.
        return (x.flip(1) if reverse else x).transpose(1, 2).contiguous()

    def parameter(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.float().contiguous()

    y = selective_scan_fn(
        channels_first(u),
        channels_first(delta),
        parameter(A),
        channels_first(B),
        channels_first(C),
        D=parameter(D),
        z=channels_first(z),
        delta_bias=parameter(delta_bias),
        delta_softplus=delta_softplus,
    ).transpose(1, 2)
    return y.flip(1) if reverse else y
