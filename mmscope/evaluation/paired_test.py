"""Claims about runs, judged on the images they share.

A claim says that one side scores at least as well as another, up to a
margin. Both sides are scored on the same images, so the difference is
averaged image by image, and its standard error says how far another draw of
images could move it. Another seed can move it further: one training a side
carries no error of training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmscope.evaluation.tables import Column, format_table

# Standard errors beyond which a difference counts: about 95 %.
NUM_ERRORS = 2.0


@dataclass(frozen=True)
class Side:
    """One side of a claim.

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
        if self.stage not in ('coarse', 'fine', 'gated'):
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


def judge(claim: Mapping, sweeps: Mapping[str, Mapping]) -> dict:
    """Hold one claim against the sweeps.

    Args:
        claim (Mapping): ``claim`` (a sentence), ``better`` and ``worse``
            (arguments of :class:`Side`), ``margin`` in points.
        sweeps (Mapping[str, Mapping]): ``SweepResult.to_dict`` by name.

    Returns:
        dict: Scores in percent, difference with its standard error in
        points, and ``verdict``: 'held' or 'not held' where the difference
        plus margin is more than two standard errors from zero, else
        'undecided'.

    Raises:
        ValueError: If a sweep is missing, of other images, or without the
            stage that the claim needs.
    """
    better, worse = Side(**claim['better']), Side(**claim['worse'])
    first, at_better = side_scores(better, sweeps)
    second, at_worse = side_scores(worse, sweeps)
    if list(first) != list(second):
        raise ValueError(
            f'{better} and {worse} were scored on different images '
            f'({len(first)} and {len(second)})'
        )
    # An image without objects has no AP, whoever looks at it.
    known = [n for n in first if None not in (first[n], second[n])]
    pairs = np.array([(first[name], second[name]) for name in known])
    change = pairs[:, 0] - pairs[:, 1]
    error = float(change.std(ddof=1)) / math.sqrt(len(change))
    margin = float(claim.get('margin', 0.0))
    return {
        'claim': claim['claim'],
        'better': f'{better}{at_better}',
        'worse': f'{worse}{at_worse}',
        'better_score': float(pairs[:, 0].mean()),
        'worse_score': float(pairs[:, 1].mean()),
        'difference': float(change.mean()),
        'error': error,
        'margin': margin,
        'verdict': _verdict(float(change.mean()) + margin, error),
    }


def _verdict(lead: float, error: float) -> str:
    if abs(lead) <= NUM_ERRORS * error:
        return 'undecided'
    return 'held' if lead > 0 else 'not held'


def side_scores(
    side: Side, sweeps: Mapping[str, Mapping]
) -> tuple[dict[str, float], str]:
    """Score every image for one side of a claim.

    Args:
        side (Side): Run and stage.
        sweeps (Mapping[str, Mapping]): Sweeps by name.

    Returns:
        tuple[dict[str, float], str]: Score in percent by image name, and
        what there is to say about the threshold.

    Raises:
        ValueError: See :func:`judge`.
    """
    sweep = _find(sweeps, side.run)
    keys = {stage: f'{stage}_{sweep["score"]}' for stage in ('coarse', 'fine')}
    images = sweep['images']
    if side.stage == 'fine':
        return _column(side, images, [keys['fine']] * len(images)), ''
    if not images or keys['coarse'] not in images[0]:
        raise ValueError(f'{side}: this run has no coarse stage')
    if side.stage == 'coarse':
        return _column(side, images, [keys['coarse']] * len(images)), ''
    threshold = _threshold(side, sweeps)
    exits = [image['confidence'] >= threshold for image in images]
    chosen = [keys['coarse' if gone else 'fine'] for gone in exits]
    ratio = sum(exits) / len(exits)
    low, high = _costs(sweep)
    cost = ratio * low + (1 - ratio) * high
    share = cost / _costs(_find(sweeps, side.cost_of))[1]
    note = (
        f' (threshold {threshold:.3f} from {side.chosen_on}; {ratio:.1%} '
        f'exit, {share:.1%} of the MACs)'
    )
    return _column(side, images, chosen), note


def _column(side: Side, images: list[dict], keys: list[str]) -> dict:
    scores = {
        image['name']: image[key]
        for image, key in zip(images, keys, strict=True)
    }
    if len(scores) != len(images):
        raise ValueError(f'{side}: image names are not unique')
    return scores


def _threshold(side: Side, sweeps: Mapping[str, Mapping]) -> float:
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
    values = sorted((i['confidence'] for i in sweep['images']), reverse=True)
    count = math.ceil(ratio * len(values))
    return values[count - 1] if count else math.nextafter(values[0], math.inf)


def _costs(sweep: Mapping) -> tuple[float, float]:
    """Mean cost where all exit and where none does, GMACs an image."""
    return sweep['rows'][0]['mean_cost'], sweep['rows'][-1]['mean_cost']


def _find(sweeps: Mapping[str, Mapping], name: str) -> Mapping:
    if name not in sweeps:
        raise ValueError(f'no sweep {name!r}; there are {sorted(sweeps)}')
    return sweeps[name]


def claims_table(judged: list[dict]) -> str:
    """Show judged claims as Markdown.

    Args:
        judged (list[dict]): Results of :func:`judge`.

    Returns:
        str: A table.
    """
    columns = [
        Column('claim', 'claim'),
        Column('verdict', 'verdict'),
        Column('difference', 'difference (points)', '+.2f'),
        Column('error', 'standard error', '.2f'),
        Column('margin', 'margin', '.1f'),
        Column('better', 'said to be better'),
        Column('better_score', 'score', '.2f'),
        Column('worse', 'than'),
        Column('worse_score', 'score', '.2f'),
    ]
    return format_table(judged, columns)
