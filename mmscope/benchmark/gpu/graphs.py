"""Work recorded once and replayed, so that launches cost no time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmscope.evaluation.interleaved_timing import (
    Entry,
    Run,
    stopwatch,
    time_interleaved,
)

GRAPH, CALLS = 'graph', 'calls'
# A measured lap should last so long: launches and clocks are then nothing.
LAP_S = 2e-3
MAX_CALLS = 200
AFTER_LOSS = 'not recorded: a recording before it failed in this process'
WARM_UP = 3
WARM_UP_ROUNDS = 2


@dataclass
class Process:
    """What this process may record, and whether it lost a recording.

    After a loss PyTorch's allocator and generator are left as they are while
    recording, and later draws on the GPU fail: another process must go on.
    ``forbidden`` says why nothing is to be recorded, if so.
    """

    lost: bool = False
    forbidden: str = ''

    def check(self) -> None:
        """Raise a RuntimeError if nothing can or may be recorded."""
        if self.lost or self.forbidden:
            raise RuntimeError(self.forbidden or AFTER_LOSS)


process = Process()


@dataclass(frozen=True)
class Lap:
    """Some runs in one go: a 'graph', or 'calls' where none could be recorded.

    ``reason`` says why not.
    """

    run: Run
    calls: int
    kind: str
    reason: str = ''


def warm_up(run: Run, device: torch.device) -> None:
    """Run on another stream, as a recording wants it."""
    if device.type != 'cuda':
        run()
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream(device).wait_stream(stream)
    torch.cuda.synchronize(device)


def record(run: Run, device: torch.device) -> tuple[Run, object]:
    """Record a run in a CUDA graph; on a CPU it stays what it is.

    Args:
        run (Callable): Work of fixed shapes that never waits for the device.
        device (torch.device): Where it works.

    Returns:
        tuple[Callable, object]: The replay, and what the run returned: on a
        GPU tensors that every replay writes anew.

    Raises:
        RuntimeError: If it cannot be recorded, or nothing may be.
    """
    if device.type == 'cuda':
        process.check()
    warm_up(run, device)
    if device.type != 'cuda':
        return run, run()
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream(device)
    try:
        with torch.cuda.graph(graph):
            result = run()
    except BaseException:
        process.lost = True
        # PyTorch stays on the stream on which it recorded.
        torch.cuda.set_stream(stream)
        raise
    return graph.replay, result


class Recorded:
    """A function of tensors of fixed shapes, recorded.

    Args:
        function (Callable): From tensors to a tree of tensors.
        inputs (tuple[Tensor, ...]): Examples; later ones are copied to where
            these lie.
        device (torch.device): Where it works.
    """

    def __init__(
        self,
        function: Callable[..., object],
        inputs: tuple[Tensor, ...],
        device: torch.device,
    ) -> None:
        self._inputs = tuple(x.clone() for x in inputs)
        self._replay, self.result = record(
            lambda: function(*self._inputs), device
        )

    def __call__(self, *inputs: Tensor) -> object:
        """Return the result for other values, valid until the next call."""
        for place, value in zip(self._inputs, inputs, strict=True):
            if place is not value:
                place.copy_(value)
        found = self._replay()
        return self.result if found is None else found


def lap(run: Run, device: torch.device) -> Lap:
    """Put as many runs into one go as it takes to time them well.

    A graph of them on a GPU, plain calls where it cannot be recorded.
    """
    warm_up(run, device)
    if device.type != 'cuda':
        return Lap(run, 1, CALLS)
    calls = _calls_for(LAP_S, _shortest(run, device))
    try:
        replay, _ = record(_several(run, calls), device)
        # Alone, a short run takes as long as launching it does.
        seconds = _shortest(replay, device)
        if seconds < LAP_S / 2 and calls < MAX_CALLS:
            calls = _calls_for(LAP_S, seconds / calls)
            replay, _ = record(_several(run, calls), device)
    except RuntimeError as error:
        torch.cuda.synchronize(device)
        reason = str(error).splitlines()[0]
        return Lap(_several(run, calls), calls, CALLS, reason)
    return Lap(replay, calls, GRAPH)


def _shortest(run: Run, device: torch.device) -> float:
    return min(stopwatch(run, device) for _ in range(3))


def _calls_for(lap_s: float, seconds: float) -> int:
    return max(1, min(MAX_CALLS, round(lap_s / max(seconds, 1e-6))))


def _several(run: Run, calls: int) -> Run:
    def several() -> None:
        for _ in range(calls):
            run()

    return several


@dataclass
class LapTime:
    """What a short piece of work takes: median microseconds of one run.

    Timed in so many ``rounds`` by 'graph' or 'calls', so many ``calls`` in
    one go; ``us_iqr`` are quartiles. ``reason`` says why no graph was
    recorded, and is all that who was skipped has.
    """

    us: float | None = None
    us_iqr: tuple[float, float] | None = None
    timed_by: str = ''
    calls: int = 0
    rounds: int = 0
    reason: str = ''


def race_laps(
    runs: dict[str, Run],
    device: torch.device,
    repeats: int,
    budget_s: float | None = None,
) -> dict[str, LapTime]:
    """Time short rivals in turns, without what launching them costs.

    By name, in the order of the runs; see :func:`time_interleaved`.
    """
    laps = {name: lap(run, device) for name, run in runs.items()}
    entries = {name: Entry(one.run) for name, one in laps.items()}
    # Each lap ran before, and a dry run on a CPU has no time to lose.
    rounds = WARM_UP_ROUNDS if device.type == 'cuda' else 0
    result = time_interleaved(entries, repeats, device, budget_s, rounds)
    found = {}
    for name, one in laps.items():
        if name in result.skipped:
            found[name] = LapTime(reason=result.skipped[name])
            continue
        means = 1e6 / one.calls * result.timings[name].means
        low, middle, high = map(float, np.percentile(means, (25, 50, 75)))
        timed = middle, (low, high), one.kind, one.calls, len(means)
        found[name] = LapTime(*timed, one.reason)
    return found


def device_seconds(run: Run, device: torch.device, repeats: int) -> float:
    """Time one piece of work on its own: median seconds of one run."""
    return race_laps({'run': run}, device, repeats)['run'].us / 1e6
