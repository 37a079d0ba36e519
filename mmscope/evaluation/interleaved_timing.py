"""Rivals timed in turns, so that a drifting machine favours nobody."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

Run = Callable[[], object]
# Rounds without which a median says nothing.
MIN_ROUNDS = 3
WARM_UP = 2


@dataclass(frozen=True)
class Entry:
    """Who takes part in interleaved timing.

    Args:
        run (Callable): One forward.
        period (int): Forwards a round, see :func:`cycle_length`. Defaults to
            1.
    """

    run: Run
    period: int = 1


@dataclass
class Timing:
    """Seconds of every timed forward of one rival.

    Args:
        rounds (list[list[float]]): Forwards of each round.
    """

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def means(self) -> np.ndarray:
        """Mean seconds of a forward in each round, (rounds,)."""
        return np.array([np.mean(forwards) for forwards in self.rounds])

    @property
    def median(self) -> float:
        """Median over the rounds, seconds a forward."""
        return float(np.median(self.means))

    def percentile(self, percent: float) -> float:
        """Percentile over single forwards, seconds; 50 for p50."""
        forwards = [second for one in self.rounds for second in one]
        return float(np.percentile(forwards, percent))

    def summary(self, images: int) -> dict:
        """Describe the timing.

        Args:
            images (int): Images of one forward.

        Returns:
            dict: ``images_per_s`` (median round) and its quartiles,
            ``latency_ms_p50`` and ``_p95`` of one forward, ``rounds``,
            ``forwards``.
        """
        low, middle, high = np.percentile(images / self.means, (25, 50, 75))
        return {
            'images_per_s': float(middle),
            'images_per_s_iqr': [float(low), float(high)],
            'latency_ms_p50': 1e3 * self.percentile(50),
            'latency_ms_p95': 1e3 * self.percentile(95),
            'rounds': len(self.rounds),
            'forwards': sum(map(len, self.rounds)),
        }


@dataclass
class InterleavedTimings:
    """Outcome of :func:`time_interleaved`.

    Args:
        timings (dict[str, Timing]): By name, of those who finished.
        skipped (dict[str, str]): Reason by name.
    """

    timings: dict[str, Timing] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def ratio(self, name: str, other: str) -> tuple[float, float, float]:
        """Compare two rivals round by round: quartiles of time over time."""
        rounds = min(
            len(self.timings[name].rounds), len(self.timings[other].rounds)
        )
        ratios = (
            self.timings[name].means[:rounds]
            / self.timings[other].means[:rounds]
        )
        return tuple(np.percentile(ratios, (25, 50, 75)).tolist())


def synchronize(device: torch.device) -> None:
    """Wait until a device has done its work."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def stopwatch(run: Run, device: torch.device) -> float:
    """Time one call, the device's work included, in seconds."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def turns(names: list[str], number: int) -> list[str]:
    """Order of a round: there and back, so that a linear drift cancels."""
    return names[::-1] if number % 2 else list(names)


def time_interleaved(
    entries: Mapping[str, Entry],
    repeats: int,
    device: torch.device,
    budget_s: float | None = None,
    warm_up: int = WARM_UP,
) -> InterleavedTimings:
    """Time rivals in turns, round by round.

    Args:
        entries (Mapping[str, Entry]): Rivals by name.
        repeats (int): Timed rounds.
        device (torch.device): Where they work.
        budget_s (float | None): Wall-clock seconds. If three rounds of
            everybody do not fit, the slowest are skipped, one by one; rounds
            end when the budget is spent. None has no limit. Defaults to
            None.
        warm_up (int): Rounds before the timed ones. Defaults to 2.

    Returns:
        InterleavedTimings: Timings, and who was skipped why.

    Raises:
        ValueError: If there is no round.
    """
    if repeats < 1:
        raise ValueError(
            f'interleaved timing needs at least 1 round, got {repeats}'
        )
    result, timed = InterleavedTimings(), dict(entries)
    start = time.perf_counter()
    for number in range(warm_up):
        costs = {
            name: sum(_laps(timed[name], device))
            for name in turns(list(timed), number)
        }
        rounds = min(MIN_ROUNDS, repeats) + warm_up - number - 1
        left = _left(budget_s, start)
        for name, reason in too_slow(costs, rounds, left).items():
            result.skipped[name] = reason
            del timed[name]
    for number in range(repeats):
        if number >= MIN_ROUNDS and _left(budget_s, start) < 0:
            break
        for name in turns(list(timed), number):
            laps = _laps(timed[name], device)
            result.timings.setdefault(name, Timing()).rounds.append(laps)
    # As given, whoever came first in the last round.
    result.timings = {n: result.timings[n] for n in timed}
    return result


def _laps(entry: Entry, device: torch.device) -> list[float]:
    return [stopwatch(entry.run, device) for _ in range(entry.period)]


def _left(budget_s: float | None, start: float) -> float:
    spent = time.perf_counter() - start
    return float('inf') if budget_s is None else budget_s - spent


def too_slow(
    costs: Mapping[str, float], rounds: int, left: float
) -> dict[str, str]:
    """Choose who has to go so that the others can finish, the slowest first.

    ``costs`` are seconds of one round; reasons come by name.
    """
    staying, found = dict(costs), {}
    while staying and rounds * sum(staying.values()) > left:
        slowest = max(staying, key=staying.__getitem__)
        found[slowest] = over_budget(staying.pop(slowest), rounds, left)
    return found


def over_budget(seconds: float, rounds: int, left: float) -> str:
    """Say why a rival is not timed, of so many seconds a round."""
    return (
        f'over the time budget: {rounds} rounds of {seconds:.3g} s, and '
        f'{max(left, 0):.3g} s are left for everybody'
    )
