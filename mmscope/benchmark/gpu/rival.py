"""mamba-ssm's CUDA scan, called as its own package and ViM call it.

Our adapter transposes and runs the forward again in the backward; that would
be no fair rival. Here tensors have the layout that the kernels want from the
first projection on, and the backward uses what the forward saved, as in
``mamba_inner_fn`` of the released ViM.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from mmscope.models.layers import PLAIN, BidirectionalMamba, Mixed, MixerPlan
from mmscope.ops import DirectionWeights

MODULE = 'selective_scan_cuda'
RIVAL = f'ViM, {MODULE}'
BUILD = 'python tools/misc/build_selective_scan.py FOLDER --source ARCHIVE'


def why_no_rival() -> str | None:
    """Say why mamba-ssm's scan cannot take part; None if it can."""
    try:
        importlib.import_module(MODULE)
    except ImportError as error:
        return (
            f'{MODULE} cannot be imported ({error}): build it with {BUILD} '
            'and put FOLDER on PYTHONPATH'
        )
    return None


def _kernels() -> ModuleType:
    return importlib.import_module(MODULE)


class _Scan(torch.autograd.Function):
    """One direction; as ``SelectiveScanFn`` of mamba-ssm 2.2.

    Inputs are those of :func:`channels_first_scan`, in its order.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, *inputs: Tensor) -> Tensor:
        out, states, gated = _kernels().fwd(*inputs, True)
        ctx.save_for_backward(*inputs, states, out)
        return gated

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, ...]:
        *inputs, states, out = ctx.saved_tensors
        if grad.stride(-1) != 1:
            grad = grad.contiguous()
        du, ddelta, dA, dB, dC, dD, dbias, dz = _kernels().bwd(
            *inputs, grad, states, out, None, True, False
        )
        dB, dC = (d.to(x) for d, x in ((dB, inputs[3]), (dC, inputs[4])))
        return du, ddelta, dA, dB, dC, dD, dz, dbias


def channels_first_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
) -> Tensor:
    """Run mamba-ssm's scan in the layout that it wants, with softplus.

    Args:
        u (Tensor): Input, (batch, dim, seqlen).
        delta (Tensor): Step sizes before softplus, (batch, dim, seqlen).
        A (Tensor): Decay rates, (dim, d_state) float32.
        B (Tensor): Input maps, (batch, 1, d_state, seqlen).
        C (Tensor): Output maps, (batch, 1, d_state, seqlen).
        D (Tensor): Skip weights, (dim,) float32.
        z (Tensor): Gate, (batch, dim, seqlen).
        delta_bias (Tensor): (dim,) float32.

    Returns:
        Tensor: Output, (batch, dim, seqlen).
    """
    return _Scan.apply(u, delta, A, B, C, D, z, delta_bias)


def to_channels_first(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Lay the eight inputs of ``selective_scan`` out for it, by name."""
    found = {}
    for name, x in inputs.items():
        if name in ('u', 'delta', 'z'):
            found[name] = x.mT.contiguous()
        elif name in ('B', 'C'):
            found[name] = x.mT.contiguous().unsqueeze(1)
        else:
            found[name] = x.float().contiguous()
    return found


def rival_core(
    x: Tensor,
    z: Tensor,
    forward: DirectionWeights,
    backward: DirectionWeights,
) -> Tensor:
    """Run everything between a mixer's two projections, channels first.

    Convolutions are PyTorch's, the scans are mamba-ssm's, and the backward
    direction sees a flipped sequence.

    Args:
        x (Tensor): Input of both convolutions, (batch, dim, seqlen).
        z (Tensor): Gate, (batch, dim, seqlen).
        forward (DirectionWeights): Weights of the forward direction.
        backward (DirectionWeights): Weights of the backward direction.

    Returns:
        Tensor: Gated output, (batch, dim, seqlen).
    """
    ahead = _direction(x, z, forward)
    back = _direction(x.flip(-1), z.flip(-1), backward).flip(-1)
    return (ahead + back) * 0.5


def _dense(x: Tensor) -> Tensor:
    """Copy only where the kernels need it: a last stride of 1."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _direction(x: Tensor, z: Tensor, weights: DirectionWeights) -> Tensor:
    batch, dim, seqlen = x.shape
    taps = weights.conv_weight.unsqueeze(1)
    padding = taps.shape[-1] - 1
    u = F.conv1d(
        x, taps.to(x.dtype), weights.conv_bias.to(x.dtype), 1, padding, 1, dim
    )
    u = F.silu(u[..., :seqlen])
    tokens = u.mT.reshape(batch * seqlen, dim)
    d_state = weights.A_log.shape[1]
    parts = (weights.dt_proj.shape[1], d_state, d_state)
    rank, B, C = F.linear(tokens, weights.x_proj).split(parts, -1)
    delta = torch.matmul(weights.dt_proj, rank.mT)
    delta = delta.unflatten(1, (batch, seqlen)).transpose(0, 1)
    B, C = (
        i.unflatten(0, (batch, seqlen)).mT.contiguous().unsqueeze(1)
        for i in (B, C)
    )
    sequences = (u, delta, B, C, z)
    u, delta, B, C, z = (_dense(i).to(x.dtype) for i in sequences)
    A = -weights.A_log.float().exp()
    D, bias = weights.D.float(), weights.dt_bias.float()
    return channels_first_scan(u, delta, A, B, C, D, z, bias)


class RivalMixer(nn.Module):
    """A bidirectional mixer that works as the released ViM's.

    Args:
        mixer (BidirectionalMamba): Whose weights it shares.
    """

    def __init__(self, mixer: BidirectionalMamba) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor, plan: MixerPlan = PLAIN) -> Mixed:
        """Mix tokens (B, L, D) both ways, and nothing more.

        Raises:
            ValueError: If scores, directions or a mask are wanted.
        """
        if plan != PLAIN:
            raise ValueError(
                'mamba-ssm has no token scores, skips no direction and masks '
                'nothing: compare plain ViM, not MambaScope or a reduction'
            )
        # (2 D, D) @ (D, B L), as the released ViM: each sequence is dense, and
        # nothing is transposed, with gradients or without.
        xz = torch.mm(self.mixer.in_proj.weight, x.flatten(0, 1).mT)
        xz = xz.unflatten(1, x.shape[:2]).transpose(0, 1)
        x, z = xz.chunk(2, dim=1)
        y = rival_core(x, z, self._weights(''), self._weights('_b'))
        return Mixed(self.mixer.out_proj(y.mT))

    def _weights(self, suffix: str) -> DirectionWeights:
        mixer = self.mixer
        conv, select, step = (
            getattr(mixer, f'{name}{suffix}')
            for name in ('conv1d', 'x_proj', 'dt_proj')
        )
        return DirectionWeights(
            conv.weight.squeeze(1),
            conv.bias,
            select.weight,
            step.weight,
            step.bias,
            mixer.A_b_log if suffix else mixer.A_log,
            getattr(mixer, f'D{suffix}'),
        )


def with_rival_mixers(model: nn.Module) -> nn.Module:
    """Let mamba-ssm's kernels run a ViM's mixers; changed in place."""
    for block in model.backbone.layers:
        block.mixer = RivalMixer(block.mixer)
    return model
