"""Paired tests of runs on the images that they share.

A hypothesis says that one side scores at least as well as another, up to a
margin (non-inferiority). Both sides are scored on the same images, so the
difference is averaged image by image, and its standard error says how far
another draw of images could move it. Another training can move it further:
of one training a side that error is unknown; of several seeds it is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import msgspec
import numpy as np
import pandas as pd
from scipy.stats import sem

from mmscope.evaluation.hypothesis_sides import (
    SEED,
    Side,
    Sweeps,
    side_scores,
)
from mmscope.evaluation.tables import Column, format_table

# Standard errors beyond which a difference counts: about 95 %.
NUM_ERRORS = 2.0
COLUMNS = (
    Column('claim', 'claim'),
    Column('verdict', 'verdict'),
    Column('difference', 'difference (points)', '+.2f'),
    Column('error', 'standard error', '.2f'),
    Column('by_seed', 'seed by seed'),
    Column('margin', 'margin', '.1f'),
    Column('better', 'said to be better'),
    Column('better_score', 'score', '.2f'),
    Column('worse', 'than'),
    Column('worse_score', 'score', '.2f'),
)


class Hypothesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That one side is at least as good as another.

    Args:
        claim (str): The same as a sentence.
        better (Side): Said to be at least as good, up to the margin.
        worse (Side): What it is compared with.
        margin (float): Points that may be lost; a negative one asks for a
            lead. Defaults to 0.
        seeds (tuple[int, ...]): Trainings that are averaged; '{seed}' in the
            names of sweeps stands for each. Defaults to (): one training.

    Raises:
        ValueError: If the margin is not finite, or seeds are not several or
            without their place in the names.
    """

    claim: str
    better: Side
    worse: Side
    margin: float = 0.0
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not math.isfinite(self.margin):
            raise ValueError(
                f'{self.claim!r}: margin must be a finite number of points, '
                f'got {self.margin}'
            )
        if len(self.seeds) == 1 or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f'{self.claim!r}: seeds must be two or more different '
                f'numbers, or left out, got {list(self.seeds)}'
            )
        runs = (self.better.run, self.worse.run)
        if bool(self.seeds) != any(SEED in run for run in runs):
            raise ValueError(
                f"{self.claim!r}: '{SEED}' in the name of a run and seeds "
                f'go together, got {runs} and seeds {list(self.seeds)}'
            )

    def sides(self) -> list[tuple[Side, Side]]:
        """Return better and worse, once a training."""
        if not self.seeds:
            return [(self.better, self.worse)]
        return [
            (self.better.of_seed(seed), self.worse.of_seed(seed))
            for seed in self.seeds
        ]


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
        error (float): Its standard error: of the images and, of several
            seeds, of the trainings, added as squares.
        margin (float): Points that may be lost.
        verdict (str): 'held' or 'not held' where the difference plus margin
            is more than two standard errors from zero, else 'undecided'.
        by_seed (str): The difference of each seed, if there are several.
            Defaults to ''.
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
    by_seed: str = ''


def paired_test(hypothesis: Hypothesis, sweeps: Sweeps) -> PairedTest:
    """Hold a hypothesis against the sweeps.

    Raises:
        ValueError: If a sweep is missing, of other images, without the
            stage that a side needs, or fewer than two images have a score.
    """
    pairs = [_Pair.read(*sides, sweeps) for sides in hypothesis.sides()]
    scores = _mean_scores(pairs)
    if len(scores) < 2:
        raise ValueError(
            f'{hypothesis.claim!r}: {len(scores)} images are scored on both '
            'sides, and a standard error takes two or more'
        )
    by_seed = [float(pair.change.mean()) for pair in pairs]
    difference = float(np.mean(by_seed))
    error = float(sem(scores['better'] - scores['worse']))
    named = pairs[0] if len(pairs) == 1 else hypothesis
    if len(pairs) > 1:
        error = math.hypot(error, sem(by_seed))
    return PairedTest(
        claim=hypothesis.claim,
        better=str(named.better),
        worse=str(named.worse),
        better_score=float(scores['better'].mean()),
        worse_score=float(scores['worse'].mean()),
        difference=difference,
        error=error,
        margin=hypothesis.margin,
        verdict=_verdict(difference + hypothesis.margin, error),
        by_seed=', '.join(f'{change:+.2f}' for change in by_seed)
        if len(by_seed) > 1
        else '',
    )


@dataclass(frozen=True)
class _Pair:
    """Both sides of one training: names, and scores of the images, percent."""

    better: str
    worse: str
    scores: pd.DataFrame

    @classmethod
    def read(cls, better: Side, worse: Side, sweeps: Sweeps) -> _Pair:
        first, at_better = side_scores(better, sweeps)
        second, at_worse = side_scores(worse, sweeps)
        _same_images(first.index, second.index, f'{better} and {worse}')
        # An image without objects has no AP, whoever looks at it.
        scores = pd.DataFrame({'better': first, 'worse': second}).dropna()
        return cls(f'{better}{at_better}', f'{worse}{at_worse}', scores)

    @property
    def change(self) -> pd.Series:
        return self.scores['better'] - self.scores['worse']


def _same_images(first: pd.Index, second: pd.Index, what: str) -> None:
    if list(first) != list(second):
        raise ValueError(
            f'{what} were scored on different images '
            f'({len(first)} and {len(second)})'
        )


def _mean_scores(pairs: Sequence[_Pair]) -> pd.DataFrame:
    """Average the trainings, image by image."""
    first, *others = pairs
    for pair in others:
        what = f'{first.better} and {pair.better}'
        _same_images(first.scores.index, pair.scores.index, what)
    return sum(pair.scores for pair in pairs) / len(pairs)


def _verdict(lead: float, error: float) -> str:
    if abs(lead) <= NUM_ERRORS * error:
        return 'undecided'
    return 'held' if lead > 0 else 'not held'


def format_tests(tests: Sequence[PairedTest]) -> str:
    """Show tests as a Markdown table."""
    # A column that no test fills is left out.
    rows = [
        {key: value for key, value in asdict(test).items() if value != ''}
        for test in tests
    ]
    return format_table(rows, COLUMNS)
