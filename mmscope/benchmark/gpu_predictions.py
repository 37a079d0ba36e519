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

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COUNTS = Path(__file__).parents[2] / 'docs/results/gpu_kernels.json'
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
    before_milliseconds: float
    before_limit: str
    copy_milliseconds: float
    plan: str


def launch_seconds(card: Card, launch: dict, kernel: dict) -> tuple:
    """Predict one launch.

    Args:
        card (Card): The GPU.
        launch (dict): ``programs``, ``tokens`` of a program, ``bytes`` and
            ``scratch`` bytes.
        kernel (dict): As :func:`mmscope.benchmark.gpu_kernels.count` returns.

    Returns:
        tuple: Seconds, and the name of the limit.
    """
    counts = kernel['per_token']
    issue = sum(counts.values())
    special = counts.get('exponentials', 0) * WARP * SCHEDULERS
    moves = sum(counts.get(k, 0) for k in ('loads', 'stores', 'exchanges'))
    slots = {
        'issue slots': issue,
        'exponentials': special / LANES_OF_EXPONENTIALS,
        'loads and stores': moves * WARP * SCHEDULERS / LANES_OF_MEMORY,
    }
    bound = max(slots, key=slots.get)
    busiest = slots[bound]
    schedulers = card.multiprocessors * SCHEDULERS
    held = REGISTERS // (max(kernel['registers'], 1) * WARP)
    held = max(min(held, MOST_PROGRAMS) // SCHEDULERS, 1)
    turns = math.ceil(launch['programs'] / schedulers)
    tokens = launch['tokens'] / card.clock
    few = launch['programs'] < schedulers
    rate = card.copy_rate
    if launch['bytes'] < card.cache / 2:
        rate = card.cache_rate
    moved = launch['bytes'] / rate + launch['scratch'] / card.cache_rate
    chain = math.ceil(turns / held) * tokens * CYCLES_ALONE * issue
    limits = {
        bound: turns * tokens * busiest,
        'too few programs' if few else 'latency': chain,
        'bytes': moved,
    }
    limit = max(limits, key=limits.get)
    if limits[limit] < LAUNCH_SECONDS:
        return limits[limit] + LAUNCH_SECONDS, 'launches'
    return limits[limit] + LAUNCH_SECONDS, limit


def _case(counts: dict, card: Card, name: str) -> tuple[float, str]:
    launches = [
        launch_seconds(card, launch, counts['kernels'][launch['kernel']])
        for launch in counts['cases'][name]
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


def read_counts(path: Path | None = None) -> dict:
    """Read the file of counts, which tools/analysis_tools writes."""
    return json.loads((path or COUNTS).read_text(encoding='utf-8'))


def predict(
    card: str | None = None, counts: dict | None = None
) -> list[Prediction]:
    """Predict the scans of ViM-S and MambaScope-S.

    Args:
        card (str | None): One of ``CARDS``. Defaults to None: all.
        counts (dict | None): As the file of counts has them. Defaults to
            None: read from docs/results/gpu_kernels.json.

    Returns:
        list[Prediction]: A row a card, model, part, batch and length.
    """
    counts = read_counts() if counts is None else counts
    cards = CARDS if card is None else {card: CARDS[card]}
    return [
        _predict(counts, name, model, part, batch, seqlen)
        for name in cards
        for model in MODELS
        for part in _parts(model)
        for batch in BATCHES
        for seqlen in LENGTHS
    ]


def _parts(model: str) -> Sequence[str]:
    # Training has no score: its launches are those of ViM.
    return ('forward',) if MODELS[model] else ('forward', 'training')


def _predict(
    counts: dict, card: str, model: str, part: str, batch: int, seqlen: int
) -> Prediction:
    name = case_name(part, MODELS[model], batch, seqlen)
    dim, d_state = counts['dim'], counts['d_state']
    now = _case(counts['now'], CARDS[card], name)
    before = _case(counts['before'], CARDS[card], name)
    least = least_bytes(part, batch, seqlen, dim, d_state)
    return Prediction(
        *(card, model, part, batch, seqlen, dim, d_state),
        *(*now, *before),
        copy_milliseconds=1e3 * least / CARDS[card].copy_rate,
        plan=counts['now']['plans'][name],
    )
