"""Paired tests of runs on the images that they share.

A hypothesis says that one side scores at least as well as another, up to a
margin (non-inferiority). Both sides are scored on the same images, so the
difference is averaged image by image, and its standard error says how far
another draw of images could move it. Another seed can move it further: one
training a side carries no error of training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import sem

from mmscope.evaluation.gated_scores import STAGES
from mmscope.evaluation.sweep_result import SweepResult
from mmscope.evaluation.tables import Column, format_table

# Standard errors beyond which a difference counts: about 95 %.
NUM_ERRORS = 2.0
COLUMNS = (
    Column('claim', 'claim'),
    Column('verdict', 'verdict'),
    Column('difference', 'difference (points)', '+.2f'),
    Column('error', 'standard error', '.2f'),
    Column('margin', 'margin', '.1f'),
    Column('better', 'said to be better'),
    Column('better_score', 'score', '.2f'),
    Column('worse', 'than'),
    Column('worse_score', 'score', '.2f'),
)
Sweeps = Mapping[str, SweepResult]


@dataclass(frozen=True)
class Side:
    """One side of a hypothesis.

    Args:
        run (str): Name of a sweep.
        stage (str): 'coarse', 'fine', or 'gated': the exits decide.
            Defaults to 'fine'.
        chosen_on (str): For 'gated', the sweep of another split of the same
            model on which the threshold is chosen. Defaults to ''.
        cost_of (str): For 'gated', the run without exits whose cost is the
            measure. Defaults to ''.
        cost_share (float): For 'gated', the mean cost allowed, as a share
            of that run's. Defaults to 1.
    """

    run: str
    stage: str = 'fine'
    chosen_on: str = ''
    cost_of: str = ''
    cost_share: float = 1.0

    def __post_init__(self) -> None:
        if self.stage not in (*STAGES, 'gated'):
            raise ValueError(
                "stage must be 'coarse', 'fine' or 'gated', got "
                f'{self.stage!r}'
            )
        if self.stage == 'gated' and not (self.chosen_on and self.cost_of):
            raise ValueError(
                f'the gated side {self.run!r} needs chosen_on (a sweep to '
                'choose the threshold on) and cost_of (a run to compare '
                'costs with)'
            )

    def __str__(self) -> str:
        if self.stage != 'gated':
            return f'{self.run}, {self.stage}'
        share = f'{100 * self.cost_share:.0f} %'
        return f'{self.run}, gated at {share} of the MACs of {self.cost_of}'


@dataclass(frozen=True)
class Hypothesis:
    """That one side is at least as good as another.

    Args:
        claim (str): The same as a sentence.
        better (Side): Said to be at least as good, up to the margin.
        worse (Side): What it is compared with.
        margin (float): Points that may be lost. Defaults to 0.
    """

    claim: str
    better: Side
    worse: Side
    margin: float = 0.0

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Hypothesis:
        """Read an entry of a file, with sides as their arguments."""
        sides = {name: Side(**entry[name]) for name in ('better', 'worse')}
        return cls(**{**entry, **sides})


@dataclass(frozen=True)
class PairedTest:
    """What the images say of a hypothesis.

    Args:
        claim (str): The hypothesis.
        better (str): Name of the side said to be better.
        worse (str): Name of the other.
        better_score (float): Mean over the images, percent.
        worse_score (float): The same of the other.
        difference (float): Points.
        error (float): Its standard error.
        margin (float): Points that may be lost.
        verdict (str): 'held' or 'not held' where the difference plus margin
            is more than two standard errors from zero, else 'undecided'.
    """

    claim: str
    better: str
    worse: str
    better_score: float
    worse_score: float
    difference: float
    error: float
    margin: float
    verdict: str


def paired_test(hypothesis: Hypothesis, sweeps: Sweeps) -> PairedTest:
    """Hold a hypothesis against the sweeps.

    Raises:
        ValueError: If a sweep is missing, of other images, or without the
            stage that a side needs.
    """
    better, worse = hypothesis.better, hypothesis.worse
    first, at_better = _side_scores(better, sweeps)
    second, at_worse = _side_scores(worse, sweeps)
    if list(first.index) != list(second.index):
        raise ValueError(
            f'{better} and {worse} were scored on different images '
            f'({len(first)} and {len(second)})'
        )
    # An image without objects has no AP, whoever looks at it.
    pairs = pd.DataFrame({'better': first, 'worse': second}).dropna()
    change = pairs['better'] - pairs['worse']
    difference, error = float(change.mean()), float(sem(change))
    return PairedTest(
        claim=hypothesis.claim,
        better=f'{better}{at_better}',
        worse=f'{worse}{at_worse}',
        better_score=float(pairs['better'].mean()),
        worse_score=float(pairs['worse'].mean()),
        difference=difference,
        error=error,
        margin=hypothesis.margin,
        verdict=_verdict(difference + hypothesis.margin, error),
    )


def _verdict(lead: float, error: float) -> str:
    if abs(lead) <= NUM_ERRORS * error:
        return 'undecided'
    return 'held' if lead > 0 else 'not held'


def _side_scores(side: Side, sweeps: Sweeps) -> tuple[pd.Series, str]:
    """Score every image in percent, and say how the threshold came about."""
    sweep = _find(sweeps, side.run)
    coarse, fine = (f'{stage}_{sweep.score}' for stage in STAGES)
    if not len(sweep.images):
        raise ValueError(f'{side}: this sweep was stored without its images')
    images = sweep.images.set_index('name')
    if not images.index.is_unique:
        raise ValueError(f'{side}: image names are not unique')
    if side.stage == 'fine':
        return images[fine], ''
    if coarse not in images:
        raise ValueError(f'{side}: this run has no coarse stage')
    if side.stage == 'coarse':
        return images[coarse], ''
    threshold = _threshold(side, sweeps)
    exits = images['confidence'] >= threshold
    ratio = float(exits.mean())
    low, high = _costs(sweep)
    cost = ratio * low + (1 - ratio) * high
    share = cost / _costs(_find(sweeps, side.cost_of))[1]
    note = (
        f' (threshold {threshold:.3f} from {side.chosen_on}; {ratio:.1%} '
        f'exit, {share:.1%} of the MACs)'
    )
    return images[coarse].where(exits, images[fine]), note


def _threshold(side: Side, sweeps: Sweeps) -> float:
    """Least share of exits on the other split that keeps to the cost."""
    sweep = _find(sweeps, side.chosen_on)
    low, high = _costs(sweep)
    target = side.cost_share * _costs(_find(sweeps, side.cost_of))[1]
    ratio = (high - target) / (high - low)
    if not 0 <= ratio <= 1:
        raise ValueError(
            f'{side}: between {low:.4g} and {high:.4g} GMACs are possible, '
            f'{target:.4g} are asked for'
        )
    values = np.sort(sweep.images['confidence'])[::-1]
    count = math.ceil(ratio * len(values))
    return values[count - 1] if count else np.nextafter(values[0], np.inf)


def _costs(sweep: SweepResult) -> tuple[float, float]:
    """Mean cost where all exit and where none does, GMACs an image."""
    costs = sweep.rows['mean_cost']
    return costs.iloc[0], costs.iloc[-1]


def _find(sweeps: Sweeps, name: str) -> SweepResult:
    if name not in sweeps:
        raise ValueError(f'no sweep {name!r}; there are {sorted(sweeps)}')
    return sweeps[name]


def format_tests(tests: Sequence[PairedTest]) -> str:
    """Show tests as a Markdown table."""
    return format_table(map(asdict, tests), COLUMNS)
