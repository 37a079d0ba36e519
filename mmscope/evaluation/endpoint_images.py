"""The images of a data set, predicted at both exits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mmscope.evaluation.gated_scores import STAGES, ScoredImages

COST_COLUMNS = [
    f'{end}_{part}'
    for part in ('tokens', 'macs', 'shared')
    for end in ('exit', 'full')
]


@dataclass
class EndpointImages:
    """Every image of a data set, scored and counted at both exits.

    Neck and heads are counted at each end: the heads of a two-stage detector
    run on as many regions as its maps propose, mask heads on what is found.
    The images of a batch share what was counted for it, so mean costs
    between the two ends are exact where that number is the same for every
    image, or at batch size 1.

    Args:
        table (pd.DataFrame): One row an image: ``name``, its path;
            ``confidence`` after the coarse stage, if there is a gate; what
            the score describes (a classifier's ``label``, ``coarse_pred``
            ...); of an image that exits and of one that goes on
            ``exit_tokens`` and ``full_tokens``, ``exit_macs`` and
            ``full_macs`` of the backbone, ``exit_shared`` and
            ``full_shared``, MACs of neck and heads.
        scored (ScoredImages): Their scores at either exit.
        kinds (pd.DataFrame): Every kind of confidence that the deciding head
            offers, a column each. Defaults to none.
    """

    table: pd.DataFrame
    scored: ScoredImages
    kinds: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def confidence(self) -> np.ndarray | None:
        """After the coarse stage, (n,); None without a gate."""
        if 'confidence' not in self.table:
            return None
        return self.table['confidence'].to_numpy()

    def gains(self) -> pd.DataFrame:
        """Compute each image's fine minus coarse score, in percent points."""
        coarse, fine = map(self.scored.per_image, STAGES)
        return fine - coarse

    def primary_gain(self) -> np.ndarray:
        """Gains (n,) by the score that ranks images, 0 without a score."""
        return self.gains().iloc[:, 0].fillna(0).to_numpy()

    def mean(self, part: str, exits: np.ndarray) -> float:
        """Average 'tokens', 'macs' or 'shared' where (n,) exit."""
        early, full = self.table[f'exit_{part}'], self.table[f'full_{part}']
        return float(np.where(exits, early, full).mean())

    def details(self) -> pd.DataFrame:
        """List what is worth publishing of each image.

        Returns:
            pd.DataFrame: The table with ``full_cost`` and, with a gate,
            ``exit_cost``, GMACs of the model, in place of the parts; and the
            scores of each image: ``fine_<score>`` and, with a gate,
            ``coarse_<score>`` and ``gain_<score>``.
        """
        names = _short_names(self.table['name'])
        shown = [self.table.drop(columns=COST_COLUMNS).assign(name=names)]
        ends = ('exit', 'full') if self.confidence is not None else ('full',)
        for end in ends:
            macs = self.table[f'{end}_macs'] + self.table[f'{end}_shared']
            shown[0][f'{end}_cost'] = macs / 1e9
        shown.append(self.scored.per_image('fine').add_prefix('fine_'))
        if self.confidence is not None:
            coarse = self.scored.per_image('coarse')
            shown += [
                coarse.add_prefix('coarse_'),
                self.gains().add_prefix('gain_'),
            ]
        return pd.concat(shown, axis=1)


def _short_names(names: pd.Series) -> list[str]:
    """File names, with their folder where it tells images apart."""
    paths = [Path(name) for name in names]
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    return [str(Path(path.parent.name) / path.name) for path in paths]
