"""Every kernel against the float64 reference, on the device itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mmscope.benchmark.gpu.cases import CONV, MIXER, ParityCase
from mmscope.benchmark.gpu.inputs import draw_inputs, mixer
from mmscope.benchmark.gpu.record import Skip
from mmscope.benchmark.gpu.scale import Scale
from mmscope.benchmark.gpu.steps import Step
from mmscope.ops import causal_conv1d, selective_scan, why_unavailable
from mmscope.testing import (
    RELATIVE_RMS,
    doubled,
    relative_rms,
    run_with_grads,
)

# A kernel may be so many times as far from the truth as plain PyTorch is in
# the same dtype: sums over many tokens round more than the table allows.
TIMES = 2.0
# What one more rounding of an intermediate tensor to bfloat16 may add. The
# interpreter cuts bfloat16 off where a GPU rounds to nearest.
SLACK, INTERPRETER_SLACK = 2**-7, 2e-2
TRITON, REFERENCE = 'triton', 'reference'


@dataclass
class TensorRow:
    """One tensor against the reference, by relative RMS.

    ``tensor`` is 'out', 'scores', or the input that a gradient is of;
    ``error`` is 'nan' where it is no number.
    """

    case: str
    op: str
    dtype: str
    tensor: str
    error: float | str
    limit: float
    ok: bool

    @property
    def name(self) -> str:
        """Case and tensor."""
        return f'{self.case}: {self.tensor}'

    @property
    def share(self) -> float:
        """Error over limit; what is not a number is the worst of all."""
        error = float(self.error)
        return error / self.limit if error == error else float('inf')


@contextmanager
def nan_filled_memory() -> Iterator[None]:
    """Fill new memory with NaN: what a kernel forgets to write is seen.

    PyTorch does so while it has to be deterministic.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def parity_steps(scale: Scale) -> Iterator[Step]:
    """List the comparisons, one a case."""
    for case in scale.parity:
        yield Step(case.name, partial(_compare, case, scale))


def require_triton(device: torch.device) -> None:
    """Skip where the Triton kernels cannot run, with the reason."""
    if reason := why_unavailable(TRITON, device):
        raise Skip(f'the triton backend cannot run: {reason}')


def _compare(case: ParityCase, scale: Scale, left: float) -> list[TensorRow]:
    require_triton(scale.device)
    inputs = draw_inputs(case, scale.device)
    truth = results(case, doubled(inputs), REFERENCE)
    with nan_filled_memory():
        actual = results(case, inputs, TRITON)

    def in_same_dtype() -> dict[str, Tensor]:
        return results(case, inputs, REFERENCE)

    return judge(case, actual, truth, in_same_dtype, slack_of(scale.device))


def slack_of(device: torch.device) -> float:
    """Return what bfloat16 may add, larger under Triton's interpreter."""
    return SLACK if device.type == 'cuda' else INTERPRETER_SLACK


def function_of(case: ParityCase, backend: str) -> Callable[..., Tensor]:
    """Return the operator of a case, from inputs by name to the output."""
    if case.op == MIXER:
        # Scores have no gradient and are compared by themselves.
        return lambda **inputs: mixer(
            **inputs, backend=backend, scored=case.scored
        )[0]
    options: dict = dict(reverse=case.reverse, backend=backend)
    if case.op == CONV:
        return partial(causal_conv1d, **options)
    return partial(selective_scan, delta_softplus=case.softplus, **options)


def results(
    case: ParityCase, inputs: dict[str, Tensor], backend: str
) -> dict[str, Tensor]:
    """Compute output, gradients and, where a case wants them, scores.

    They are called ``out``, as the inputs are, and ``scores``; the backend
    is 'triton' or 'reference'.
    """
    found = run_with_grads(function_of(case, backend), inputs)
    if case.scored:
        with torch.no_grad():
            _, scores = mixer(**inputs, backend=backend, scored=True)
        found['scores'] = scores
    return found


def judge(
    case: ParityCase,
    actual: dict[str, Tensor],
    truth: dict[str, Tensor],
    plain: Callable[[], dict[str, Tensor]],
    slack: float,
) -> list[TensorRow]:
    """Compare all tensors of a case with the truth in float64: a row each.

    ``plain`` computes the same by plain PyTorch in the case's dtype, and is
    asked only where the table of tolerances does not do; ``slack`` is the
    relative error that bfloat16 may add to a mixer's.
    """
    table = RELATIVE_RMS[case.torch_dtype]
    rounds = case.op == MIXER and case.torch_dtype != torch.float32
    rows, compared = [], None
    for name, expected in truth.items():
        error, limit = _error(actual[name], expected), table
        if not error <= limit:
            compared = plain() if compared is None else compared
            by_plain = relative_rms(compared[name], expected)
            limit = max(table, TIMES * by_plain + (slack if rounds else 0.0))
        rows.append(
            TensorRow(
                *(case.name, case.op, case.dtype, name),
                *(error, limit, bool(error <= limit)),
            )
        )
    return rows


def _error(actual: Tensor, expected: Tensor) -> float:
    if actual.shape != expected.shape:
        raise ValueError(
            f'shape {tuple(actual.shape)}, expected {tuple(expected.shape)}'
        )
    return relative_rms(actual, expected)
