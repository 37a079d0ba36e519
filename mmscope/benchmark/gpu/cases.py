"""Shapes and kinds of inputs on which the kernels have to be right."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

SCAN, CONV, MIXER = 'scan', 'conv', 'mixer'
PLAIN, PARTS, TRANSPOSED = 'plain', 'parts of wider tensors', 'transposed'
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16}


@dataclass(frozen=True)
class ParityCase:
    """One comparison with the reference.

    Args:
        op (str): 'scan' (one direction), 'conv' (one direction) or 'mixer'
            (both of both, with everything between a mixer's projections).
        batch (int): Sequences. Defaults to 1.
        seqlen (int): Tokens. Defaults to 3.
        dim (int): Channels. Defaults to 5.
        d_state (int): States of a channel; taps of a convolution. Defaults
            to 3.
        dtype (str): 'float32' or 'bfloat16'. Defaults to 'float32'.
        reverse (bool): From the last token to the first. Defaults to False.
        absent (tuple[str, ...]): Optional inputs that are left out. Defaults
            to none.
        layout (str): 'plain', 'parts of wider tensors' or 'transposed'.
            Defaults to 'plain'.
        steps (str): Step sizes of a scan: 'random', 'extreme' or 'small'.
            Defaults to 'random'.
        scored (bool): Whether a mixer's scores are compared, too. Defaults
            to False.
        softplus (bool): Of a scan's step sizes. Defaults to True.
        seed (int): Of the draw. Defaults to 0.
    """

    op: str
    batch: int = 1
    seqlen: int = 3
    dim: int = 5
    d_state: int = 3
    dtype: str = 'float32'
    reverse: bool = False
    absent: tuple[str, ...] = ()
    layout: str = PLAIN
    steps: str = 'random'
    scored: bool = False
    softplus: bool = True
    seed: int = 0

    @property
    def name(self) -> str:
        """Unique description."""
        sizes = f'{self.batch} x {self.seqlen} x {self.dim} x {self.d_state}'
        extras = [
            'reverse' if self.reverse else '',
            f'without {" ".join(self.absent)}' if self.absent else '',
            self.layout if self.layout != PLAIN else '',
            f'{self.steps} steps' if self.steps != 'random' else '',
            'scored' if self.scored else '',
            '' if self.softplus else 'no softplus',
        ]
        return ', '.join(
            filter(None, [f'{self.op} {sizes}', self.dtype, *extras])
        )

    @property
    def torch_dtype(self) -> torch.dtype:
        """Dtype of the sequences."""
        return DTYPES[self.dtype]


def small_cases() -> tuple[ParityCase, ...]:
    """Return the shapes of the CPU tests, where everything is uneven."""
    cases = [
        ParityCase(SCAN, batch, seqlen, reverse=reverse)
        for seqlen, batch in ((1, 1), (3, 2), (9, 1), (17, 2), (40, 1))
        for reverse in (False, True)
    ]
    cases += [
        ParityCase(SCAN, seqlen=6, batch=2, dtype='bfloat16', reverse=True),
        ParityCase(SCAN, absent=('D',)),
        ParityCase(SCAN, absent=('z', 'delta_bias')),
        ParityCase(SCAN, absent=('D', 'z'), softplus=False),
        # With seed 0 the one rate's gradient cancels to a thousandth.
        ParityCase(SCAN, dim=1, d_state=1, seed=3),
        ParityCase(SCAN, dim=8, d_state=16, seed=3),
        ParityCase(SCAN, dim=3, d_state=19, seed=3),
        ParityCase(SCAN, batch=2, layout=PARTS),
        ParityCase(SCAN, batch=2, layout=TRANSPOSED),
        ParityCase(SCAN, seqlen=8, dim=2, steps='extreme'),
        ParityCase(SCAN, seqlen=2, steps='small', absent=('D',)),
    ]
    cases += [
        ParityCase(CONV, seqlen=seqlen, d_state=4, reverse=reverse)
        for seqlen in (1, 3, 4, 13, 70)
        for reverse in (False, True)
    ]
    cases += [
        ParityCase(CONV, dim=1, d_state=1, reverse=True),
        ParityCase(CONV, dim=9, d_state=2, reverse=True),
        ParityCase(CONV, dim=3, d_state=7, reverse=True),
        ParityCase(CONV, seqlen=20, d_state=4, dtype='bfloat16'),
        ParityCase(CONV, d_state=4, absent=('bias',)),
        ParityCase(CONV, d_state=4, layout=PARTS),
        ParityCase(CONV, d_state=4, layout=TRANSPOSED),
    ]
    cases += [
        ParityCase(MIXER, batch, seqlen, scored=scored)
        for seqlen, batch in ((1, 1), (2, 2), (5, 1), (19, 2))
        for scored in (False, True)
    ]
    return (*cases, ParityCase(MIXER, seqlen=4, dtype='bfloat16'))


def full_cases() -> tuple[ParityCase, ...]:
    """Return the shapes of models, the small ones and long ones."""
    models = [
        ParityCase(op, batch, seqlen, dim, 4 if op == CONV else 16)
        for op in (SCAN, CONV, MIXER)
        for batch, seqlen, dim in ((8, 197, 768), (2, 197, 384), (4, 51, 768))
    ]
    long = [
        ParityCase(op, 1, seqlen, 768, 4 if op == CONV else 16)
        for seqlen in (2111, 4097, 16385)
        for op in (SCAN, CONV, MIXER)
    ]
    both = [
        replace(case, dtype=dtype)
        for case in (*models, *long)
        for dtype in DTYPES
    ]
    # What models run comes first, and what takes long last, as the loops of
    # the reference do: the time may not last for all.
    return (
        *both[: 2 * len(models)],
        ParityCase(MIXER, 8, 197, 768, 16, scored=True),
        ParityCase(SCAN, 8, 197, 768, 16, reverse=True),
        *small_cases(),
        ParityCase(MIXER, 1, 4097, 768, 16, scored=True),
        ParityCase(SCAN, 1, 4097, 384, 16, reverse=True),
        *both[2 * len(models) :],
    )


def tiny_cases() -> tuple[ParityCase, ...]:
    """Return one case of every kind, for a dry run."""
    return (
        ParityCase(SCAN, layout=PARTS),
        ParityCase(SCAN, layout=TRANSPOSED, absent=('z',), reverse=True),
        ParityCase(SCAN, seqlen=8, dim=2, steps='extreme'),
        ParityCase(SCAN, seqlen=2, steps='small', absent=('D',)),
        ParityCase(CONV, d_state=2),
        ParityCase(CONV, d_state=2, layout=TRANSPOSED, dtype='bfloat16'),
        ParityCase(MIXER, seqlen=2, scored=True),
        # The interpreter cuts bfloat16 off: see parity.slack_of.
        ParityCase(MIXER, seqlen=4, dtype='bfloat16'),
    )


def huge_cases() -> tuple[ParityCase, ...]:
    """Return shapes of more than 2 ** 31 elements a tensor.

    One has its elements in long and wide sequences, one in many sequences.
    """
    return (
        ParityCase(SCAN, 1, 16385, 131072, 16, 'bfloat16'),
        ParityCase(SCAN, 2731, 1024, 768, 16, 'bfloat16', reverse=True),
        ParityCase(CONV, 1, 16385, 131072, 4, 'bfloat16'),
        ParityCase(CONV, 2731, 1024, 768, 4, 'bfloat16', reverse=True),
    )


def tiny_huge_cases() -> tuple[ParityCase, ...]:
    """Return the same kinds, for a dry run."""
    return (
        ParityCase(SCAN, 1, 3, 6, 2, 'bfloat16'),
        ParityCase(CONV, 3, 3, 6, 2, 'bfloat16', reverse=True),
    )


def watched_cases(
    shapes: tuple[tuple[int, int, int, int], ...],
) -> tuple[ParityCase, ...]:
    """Return every operator and dtype at small and uneven shapes."""
    return tuple(
        ParityCase(
            *(op, batch, seqlen, dim, 4 if op == CONV else d_state, dtype),
            scored=op == MIXER,
        )
        for batch, seqlen, dim, d_state in shapes
        for op in (SCAN, CONV, MIXER)
        for dtype in DTYPES
    )
