"""The sides of a hypothesis: runs, and how they score every image."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import pandas as pd

from mmscope.evaluation.exit_costs import costs_by_lot, costs_in_order
from mmscope.evaluation.gated_scores import STAGES
from mmscope.evaluation.sweep_result import SweepResult

# Stands for the seed in the names of sweeps.
SEED = '{seed}'
Sweeps = Mapping[str, SweepResult]
# Share of the range of costs by which a mean may differ from a line.
STRAIGHT = 1e-3
# Of a sum over many images.
ROUNDING = 1e-9


class Side(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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

    def of_seed(self, seed: int) -> Side:
        """Return the side that one seed trained."""
        names = ('run', 'chosen_on', 'cost_of')
        changes = {k: getattr(self, k).replace(SEED, str(seed)) for k in names}
        return msgspec.structs.replace(self, **changes)


def side_scores(side: Side, sweeps: Sweeps) -> tuple[pd.Series, str]:
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
    exits = (images['confidence'] >= threshold).to_numpy()
    early, full = _image_costs(side, sweep)
    share = np.where(exits, early, full).mean() / _full_cost(side, sweeps)
    note = (
        f' (threshold {threshold:.3f} from {side.chosen_on}; '
        f'{exits.mean():.1%} exit, {share:.1%} of the MACs)'
    )
    return images[coarse].where(exits, images[fine]), note


def _threshold(side: Side, sweeps: Sweeps) -> float:
    """Least share of exits on the other split that keeps to the cost."""
    sweep = _find(sweeps, side.chosen_on)
    early, full = _image_costs(side, sweep)
    confidence = sweep.images['confidence'].to_numpy()
    order = np.argsort(-confidence, kind='stable')
    means = costs_in_order(early, full, order)
    target = side.cost_share * _full_cost(side, sweeps)
    fits = means <= target * (1 + ROUNDING)
    if not fits.any() or means[0] * (1 + ROUNDING) < target:
        raise ValueError(
            f'{side}: between {means[-1]:.4g} and {means[0]:.4g} GMACs are '
            f'possible, {target:.4g} are asked for'
        )
    count, values = int(fits.argmax()), confidence[order]
    return values[count - 1] if count else np.nextafter(values[0], np.inf)


def _image_costs(
    side: Side, sweep: SweepResult
) -> tuple[np.ndarray, np.ndarray]:
    """Cost of each image that exits and of one that does not, GMACs."""
    images, rows = sweep.images, sweep.rows
    if 'full_cost' in images:
        return images['exit_cost'].to_numpy(), images['full_cost'].to_numpy()
    # An older file, where every image must have cost the same.
    low, high = rows['mean_cost'].iloc[0], rows['mean_cost'].iloc[-1]
    if 'exit_ratio' in rows:
        bend = np.abs(rows['mean_cost'] - costs_by_lot(rows)).max()
        if bend > STRAIGHT * abs(high - low):
            raise ValueError(
                f'{side}: images of this sweep cost different numbers of '
                'MACs, and the file does not say which: sweep again'
            )
    return np.full(len(images), low), np.full(len(images), high)


def _full_cost(side: Side, sweeps: Sweeps) -> float:
    """Mean cost of the run to compare with where none exits, GMACs."""
    return _find(sweeps, side.cost_of).rows['mean_cost'].iloc[-1]


def _find(sweeps: Sweeps, name: str) -> SweepResult:
    if name not in sweeps:
        raise ValueError(f'no sweep {name!r}; there are {sorted(sweeps)}')
    return sweeps[name]
