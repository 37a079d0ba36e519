"""Rivals timed in turns; the timer is :mod:`mmscope.evaluation.timing`."""

from mmscope.evaluation.timing import (
    MIN_ROUNDS,
    WARM_UP,
    Entry,
    Race,
    Run,
    Timing,
    over_budget,
    race,
    stopwatch,
    synchronize,
    too_slow,
    turns,
)

__all__ = [
    'MIN_ROUNDS',
    'WARM_UP',
    'Entry',
    'Race',
    'Run',
    'Timing',
    'over_budget',
    'race',
    'stopwatch',
    'synchronize',
    'too_slow',
    'turns',
]
