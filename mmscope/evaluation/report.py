"""Sweeps of several models side by side, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from mmscope.evaluation.classification import ClassificationScore
from mmscope.evaluation.sweep_result import SweepResult, sweep_columns
from mmscope.evaluation.tables import Column, format_table

# Shares of a single-stage model's cost at which accuracies are compared.
BUDGETS = (0.5, 0.75, 1.0)
MODEL = Column('model', 'model')
QUALITY = (
    MODEL,
    Column('score', 'score of an image'),
    Column('mean_gain', 'mean gain', '+.2f'),
    Column('gain_pearson', 'r with gain', '+.3f'),
    Column('gain_spearman', 'rank r with gain', '+.3f'),
    Column('coarse_score_spearman', 'rank r with coarse score', '+.3f'),
    Column('order_quality', 'order quality', '+.3f'),
)
KINDS = (
    MODEL,
    Column('kind', 'confidence'),
    Column('pearson', 'r with gain', '+.3f'),
    Column('spearman', 'rank r with gain', '+.3f'),
    Column('order_quality', 'order quality', '+.3f'),
)
SPEEDS = (
    MODEL,
    Column('threshold', 'threshold', '.6g'),
    Column('batch_size', 'batch', '.0f'),
    Column('exit_ratio', 'exit ratio of the timed images', '.2f'),
    Column('images_per_s', 'images/s', '.2f'),
    Column('slowest', 'slowest', '.2f'),
    Column('fastest', 'fastest', '.2f'),
)


@dataclass(frozen=True)
class Section:
    """One table of a report; without rows it is left out.

    Args:
        intro (str): What it shows. Defaults to ''.
        frame (pd.DataFrame): Its rows. Defaults to none.
        columns (tuple[Column, ...]): Its columns. Defaults to none.
    """

    intro: str = ''
    frame: pd.DataFrame = field(default_factory=pd.DataFrame)
    columns: tuple[Column, ...] = ()

    @property
    def table(self) -> str:
        """The rows as Markdown."""
        return format_table(self.frame, self.columns)


@dataclass(frozen=True)
class Comparison:
    """Sweeps by the name of their model.

    Args:
        runs (Mapping[str, SweepResult]): At least one.
    """

    runs: Mapping[str, SweepResult]

    def markdown(self) -> str:
        """Write the report that ``compare_runs.py`` inserts.

        Raises ValueError if the sweeps are of other data, scores or
        conventions.
        """
        self._check_comparable()
        sections = (
            *(self.models(), self.budgets(), self.curves()),
            *(self.quality(), self.kinds(), self.variants(), self.speeds()),
        )
        shown = (one for one in sections if len(one.frame))
        return '\n\n'.join(f'{one.intro}\n\n{one.table}' for one in shown)

    def _check_comparable(self) -> None:
        runs = self.runs.values()
        described = {
            'score': [run.score for run in runs],
            'convention': [run.convention for run in runs],
            'number of images': [run.num_images for run in runs],
            'split': [run.meta.split for run in runs],
        }
        for key, values in described.items():
            if len(set(values)) > 1:
                raise ValueError(
                    f'the sweeps differ in their {key}, so they cannot be '
                    f'compared: {values}'
                )

    @cached_property
    def one(self) -> SweepResult:
        """Any of them, for what they have in common."""
        return next(iter(self.runs.values()))

    @property
    def score(self) -> str:
        """Name of their score."""
        return self.one.score

    @property
    def classifies(self) -> bool:
        """Whether they are of classifiers."""
        return self.score == ClassificationScore.name

    def models(self) -> Section:
        """Show both ends of every curve."""
        costs = (
            Column('full_backbone_cost', 'backbone GMACs, none exits', '.3f'),
            Column('full_mean_cost', 'GMACs, none exits', '.3f'),
        )
        if self.classifies:
            costs = (
                Column('exit_mean_cost', 'GMACs, all exit', '.4f'),
                Column('full_mean_cost', 'GMACs, none exits', '.4f'),
                Column('exit_ece', 'ECE, all exit', '.2f'),
                Column('full_ece', 'ECE, none exits', '.2f'),
            )
        split = self.one.meta.split
        intro = (
            f'{self.one.num_images} images'
            + (f' of the {split} split' if split else '')
            + f'; MACs in the `{self.one.convention}` convention.'
        )
        frame = pd.concat(
            self._ends(run.rows).assign(
                model=name, params=(run.meta.params or 0) / 1e6 or None
            )
            for name, run in self.runs.items()
        )
        params = Column('params', 'params (M)', '.2f')
        columns = (MODEL, params, *self._end_columns(), *costs)
        return Section(intro, frame, columns)

    def _ends(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Both ends of a curve, and its best point, in one row."""
        full = rows.iloc[[-1]].add_prefix('full_').reset_index(drop=True)
        if len(rows) == 1:
            return full
        early = rows.iloc[[0]].add_prefix('exit_').reset_index(drop=True)
        return full.join(early).assign(best=rows[self.score].max())

    def _end_columns(self) -> tuple[Column, ...]:
        return (
            Column(f'exit_{self.score}', f'{self.score}, all exit', '.2f'),
            Column(f'full_{self.score}', f'{self.score}, none exits', '.2f'),
            Column('best', f'{self.score}, best threshold', '.2f'),
        )

    def budgets(self) -> Section:
        """Compare a classifier's accuracy at shares of one stage's cost."""
        single = [name for name, run in self.runs.items() if not run.gated]
        if not self.classifies or len(single) in (0, len(self.runs)):
            return Section()
        name, score = single[0], self.score
        base = self.runs[name].rows.iloc[0]
        frame = pd.concat(self._best_within(base.mean_cost))
        frame['difference'] = frame[score].astype(float) - base[score]
        columns = (
            MODEL,
            Column('share', f"GMACs, at most of {name}'s"),
            Column('threshold', 'threshold', '.6g'),
            Column('mean_cost', 'mean GMACs', '.4f'),
            Column(score, score, '.2f'),
            Column('difference', f'against {name}', '+.2f'),
        )
        intro = (
            f'Most accurate of the swept thresholds within a share of the '
            f'cost of {name} ({base.mean_cost:.4f} GMACs, {score} '
            f'{base[score]:.2f}); `-` where even all exits cost more.'
        )
        return Section(intro, frame, columns)

    def _best_within(self, cost: float) -> Iterator[pd.DataFrame]:
        """Give the best row of each gated model at each share of a cost."""
        for name, run in self.runs.items():
            for share in BUDGETS if run.gated else ():
                fits = run.rows[run.rows.mean_cost <= share * cost]
                best = fits.nlargest(1, self.score).reset_index(drop=True)
                # A row of NaN where nothing fits.
                best = best.reindex(range(1))
                yield best.assign(model=name, share=f'{share:.0%}')

    def curves(self) -> Section:
        """Show every threshold."""
        intro = (
            'Every threshold, from all exit to nobody. `random exits` lets '
            'as many images exit by lot (mean ± standard deviation), `oracle` '
            'those that lose least by it.'
        )
        frame = _stack((name, run.rows) for name, run in self.runs.items())
        return Section(intro, frame, (MODEL, *sweep_columns(self.score)))

    def quality(self) -> Section:
        """Ask whether the confidence tells who gains."""
        frames = []
        for name, run in self.runs.items():
            if run.confidence is not None:
                scores = run.confidence.scores
                own = scores['score'] == run.score
                order = own.map({True: run.confidence.order_quality})
                frames.append((name, scores.assign(order_quality=order)))
        intro = (
            'Does the confidence tell who gains from refinement? A useful one '
            'correlates negatively with the gain (fine minus coarse score of '
            'an image, in points). Order quality is 0 for random exits and 1 '
            'for the oracle.'
        )
        return Section(intro, _stack(frames), QUALITY)

    def kinds(self) -> Section:
        """Compare what kinds of confidence would decide."""
        head, option = 'exit head', 'backbone.exit_head.confidence'
        if self.classifies:
            head, option = 'classifier', 'model.confidence'
        intro = (
            f'The same {head} with each kind of confidence that it offers '
            f"(`{option}`; the curves above use the config's)."
        )
        frame = _stack(
            (name, run.confidence.kinds)
            for name, run in self.runs.items()
            if run.confidence is not None
        )
        return Section(intro, frame, KINDS)

    def variants(self) -> Section:
        """List what other settings give with the same weights."""
        frames = [
            self._ends(rows).assign(model=name, settings=settings)
            for name, run in self.runs.items()
            for settings, rows in run.variants.items()
        ]
        columns = (
            Column('model', 'weights of'),
            Column('settings', 'with'),
            *self._end_columns(),
            Column('full_mean_tokens', 'mean tokens', '.1f'),
            Column('full_mean_cost', 'mean GMACs', '.4f'),
        )
        intro = (
            'The same weights with other settings, for which nobody trained '
            'them.'
        )
        frame = pd.concat(frames) if frames else pd.DataFrame()
        return Section(intro, frame, columns)

    def speeds(self) -> Section:
        """Show what was timed."""
        frame = _stack(
            (name, run.throughput) for name, run in self.runs.items()
        )
        if not len(frame):
            return Section()
        devices = ', '.join(sorted(frame['device'].unique()))
        number = ', '.join(map(str, sorted(frame['num_images'].unique())))
        intro = (
            f'Speed of real gated runs on {devices}: median of repeats over '
            f'{number} images that exit in the proportion of the whole set.'
        )
        return Section(intro, frame, SPEEDS)


def _stack(frames: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Put frames below each other, with a column ``model``."""
    named = [frame.assign(model=name) for name, frame in frames if len(frame)]
    return pd.concat(named) if named else pd.DataFrame()
