"""Times of the scan on GPUs, predicted from counted instructions and bytes.

A launch of ``p`` programs of one warp, each of ``t`` tokens, on a card with
``s`` schedulers (four a multiprocessor), of which each holds ``r`` warps:

    work    = ceil(p / s) * t * max(issue, 8 * exponentials, 4 * memory)
    chain   = ceil(p / s / r) * t * 2 * issue
    seconds = max(work / clock, chain / clock, bytes / rate) + 2.5e-6

``issue``, ``exponentials`` and ``memory`` are a warp's instructions a token:
all, those of the special function unit (16 lanes a cycle and multiprocessor)
and loads, stores and exchanges (32 lanes). A warp alone is taken to issue
every second cycle. Bytes are those of each tensor that a launch reads or
writes, once, at the card's copy rate, or at the L2 cache's if they fit into
half of it; the backward's scratch moves at the latter. Cards as in NVIDIA's
H100 and H200 data sheets; copy rates as given for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from mmscope.benchmark.files import read_json

COUNTS = Path(__file__).parents[3] / 'docs/results/gpu_kernels.json'
BATCHES, LENGTHS = (1, 8, 64, 256), (51, 197, 1025, 4097)
MODELS = {'ViM-S': False, 'MambaScope-S': True}
LAUNCH_SECONDS = 2.5e-6
LANES_OF_EXPONENTIALS, LANES_OF_MEMORY, SCHEDULERS = 16, 32, 4
CYCLES_ALONE = 2
REGISTERS, MOST_PROGRAMS, WARP = 65536, 32, 32


@dataclass(frozen=True)
class Card:
    """A GPU: multiprocessors, clock in Hz, bytes a second, bytes of cache."""

    multiprocessors: int
    clock: float
    copy_rate: float
    cache_rate: float
    cache: int


CARDS = {
    'H100': Card(132, 1.755e9, 3.0e12, 5.5e12, 50 << 20),
    'H200': Card(132, 1.755e9, 4.3e12, 5.5e12, 50 << 20),
}


@dataclass
class Kernel:
    """Machine code that was counted, for a GPU such as 90.

    ``channels`` are a warp's, ``registers`` a thread's, ``stack`` spilled
    bytes, ``shared`` bytes of shared memory; ``per_token`` a warp's
    instructions for one token of its channels and one direction, by kind.
    """

    kernel: str
    capability: int
    channels: int
    registers: int
    stack: int
    shared: int
    per_token: dict[str, float]
    flags: str = ''

    @property
    def total(self) -> float:
        """Instructions a token and direction of 32 channels."""
        return sum(self.per_token.values()) * WARP / self.channels


@dataclass
class Work:
    """A launch: ``programs`` of one warp, each of so many ``tokens``.

    ``kernel`` is a key of :class:`Counts`; ``bytes`` are read or written,
    ``scratch`` bytes written and read again.
    """

    kernel: str
    programs: int
    tokens: int
    bytes: int
    scratch: int


@dataclass
class Counts:
    """What the file of counts holds, for so many channels and states.

    The kernels of a commit, the launches of each case, plans in words.
    """

    dim: int
    d_state: int
    commit: str
    kernels: dict[str, Kernel]
    cases: dict[str, list[Work]]
    plans: dict[str, str]


@dataclass(frozen=True)
class Prediction:
    """One layer's scan of both directions, bfloat16, in milliseconds.

    ``part`` is 'forward' (no gradient) or 'training' (forward that saves
    states, and backward); ``limit`` what binds the longest launch;
    ``copy_milliseconds`` each input and output once at the copy rate;
    ``plan`` the channels of a program and the spans of a sequence.
    """

    card: str
    model: str
    part: str
    batch: int
    seqlen: int
    dim: int
    d_state: int
    milliseconds: float
    limit: str
    copy_milliseconds: float
    plan: str


def launch_seconds(
    card: Card, launch: Work, kernel: Kernel
) -> tuple[float, str]:
    """Predict one launch: seconds, and the name of the limit."""
    counts = kernel.per_token
    issue = sum(counts.values())
    special = counts.get('exponentials', 0) * WARP * SCHEDULERS
    moves = sum(counts.get(k, 0) for k in ('loads', 'stores', 'exchanges'))
    slots = {
        'issue slots': issue,
        'exponentials': special / LANES_OF_EXPONENTIALS,
        'loads and stores': moves * WARP * SCHEDULERS / LANES_OF_MEMORY,
    }
    bound = max(slots, key=slots.__getitem__)
    schedulers = card.multiprocessors * SCHEDULERS
    held = REGISTERS // (max(kernel.registers, 1) * WARP)
    held = max(min(held, MOST_PROGRAMS) // SCHEDULERS, 1)
    turns = math.ceil(launch.programs / schedulers)
    tokens = launch.tokens / card.clock
    cached = launch.bytes < card.cache / 2
    rate = card.cache_rate if cached else card.copy_rate
    few = launch.programs < schedulers
    chain = math.ceil(turns / held) * tokens * CYCLES_ALONE * issue
    limits = {
        bound: turns * tokens * slots[bound],
        'too few programs' if few else 'latency': chain,
        'bytes': launch.bytes / rate + launch.scratch / card.cache_rate,
    }
    limit = max(limits, key=limits.__getitem__)
    seconds = limits[limit] + LAUNCH_SECONDS
    return seconds, limit if limits[limit] >= LAUNCH_SECONDS else 'launches'


def _case(counts: Counts, card: Card, name: str) -> tuple[float, str]:
    launches = [
        launch_seconds(card, launch, counts.kernels[launch.kernel])
        for launch in counts.cases[name]
    ]
    return 1e3 * sum(x for x, _ in launches), max(launches)[1]


def case_name(part: str, scored: bool, batch: int, seqlen: int) -> str:
    """Return the key of a case in the file of counts."""
    return f'{part} {"scored" if scored else "plain"} {batch} {seqlen}'


def least_bytes(part: str, batch: int, seqlen: int, dim: int, n: int) -> int:
    """Return the bytes of each bfloat16 input and output, once."""
    rows = 2 * batch * seqlen
    once = rows * (2 * dim + 2 * n) + 2 * batch * seqlen * dim
    # Training reads them twice, and moves the gradients of all.
    return 2 * (once if part == 'forward' else 3 * once)


def read_counts(path: Path = COUNTS) -> Counts:
    """Read the file of counts, which tools/analysis_tools writes."""
    return read_json(path, Counts, 'analysis_tools/gpu_kernels.py --count')


def predict(card: str, counts: Counts) -> list[Prediction]:
    """Predict the scans of ViM-S and MambaScope-S on a card.

    A row a model, part, batch and length.
    """
    return [
        _predict(counts, card, model, part, batch, seqlen)
        for model, scored in MODELS.items()
        # Training has no score: its launches are those of ViM.
        for part in (('forward',) if scored else ('forward', 'training'))
        for batch in BATCHES
        for seqlen in LENGTHS
    ]


def _predict(
    counts: Counts, card: str, model: str, part: str, batch: int, seqlen: int
) -> Prediction:
    name = case_name(part, MODELS[model], batch, seqlen)
    dim, d_state = counts.dim, counts.d_state
    least = least_bytes(part, batch, seqlen, dim, d_state)
    return Prediction(
        *(card, model, part, batch, seqlen, dim, d_state),
        *_case(counts, CARDS[card], name),
        copy_milliseconds=1e3 * least / CARDS[card].copy_rate,
        plan=counts.plans[name],
    )
