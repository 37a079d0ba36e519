"""Sweeps as Markdown: one for a terminal, several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mmscope.evaluation.classification import ClassificationScore
from mmscope.evaluation.sweep_result import SweepResult, sweep_columns
from mmscope.evaluation.tables import Column, format_table
from mmscope.runtime import ExitChoice, result_sentence

# Shares of a single-stage model's cost at which accuracies are compared.
BUDGETS = (0.5, 0.75, 1.0)
MODEL = Column('model', 'model')
QUALITY_COLUMNS = [
    MODEL,
    Column('score', 'score of an image'),
    Column('mean_gain', 'mean gain', '+.2f'),
    Column('gain_pearson', 'r with gain', '+.3f'),
    Column('gain_spearman', 'rank r with gain', '+.3f'),
    Column('coarse_score_spearman', 'rank r with coarse score', '+.3f'),
    Column('order_quality', 'order quality', '+.3f'),
]
KIND_COLUMNS = [
    MODEL,
    Column('kind', 'confidence'),
    Column('pearson', 'r with gain', '+.3f'),
    Column('spearman', 'rank r with gain', '+.3f'),
    Column('order_quality', 'order quality', '+.3f'),
]
SPEED_COLUMNS = [
    MODEL,
    Column('threshold', 'threshold', '.6g'),
    Column('batch_size', 'batch', '.0f'),
    Column('exit_ratio', 'exit ratio of the timed images', '.2f'),
    Column('images_per_s', 'images/s', '.2f'),
    Column('slowest', 'slowest', '.2f'),
    Column('fastest', 'fastest', '.2f'),
]
Runs = Mapping[str, SweepResult]


@dataclass(frozen=True)
class Section:
    """One table of a report.

    Args:
        intro (str): What it shows.
        frame (pd.DataFrame): Its rows; without any it is left out.
        columns (list[Column]): Its columns.
    """

    intro: str
    frame: pd.DataFrame
    columns: list[Column]

    def __str__(self) -> str:
        return f'{self.intro}\n\n{format_table(self.frame, self.columns)}'


def comparison(runs: Runs) -> str:
    """Write the report that ``compare_runs.py`` inserts.

    Args:
        runs (Mapping[str, SweepResult]): Sweeps by the name of their model.

    Returns:
        str: Markdown: models, curves, quality of the confidence, speeds.

    Raises:
        ValueError: If the sweeps are of other data, scores or conventions.
    """
    _check_comparable(list(runs.values()))
    score = next(iter(runs.values())).score
    sections = [_models(runs, score)]
    if score == ClassificationScore.name:
        sections += _budgets(runs, score)
    sections += [
        _curves(runs, score),
        _quality(runs),
        _kinds(runs, score),
        _variants(runs, score),
        _speeds(runs),
    ]
    return '\n\n'.join(str(one) for one in sections if len(one.frame))


def summary(result: SweepResult) -> str:
    """Write what people want to read of one sweep.

    Args:
        result (SweepResult): The sweep.

    Returns:
        str: Tables and, where they were asked for, the fitted temperature
        and the chosen threshold.
    """
    parts = [result.table()]
    if result.variants:
        parts.append(str(_own_and_variants(result)))
    if 'calibration' in result.meta:
        parts.append(_calibrated(result.meta['calibration']))
    if 'chosen' in result.meta:
        parts.append(_chosen(result))
    name = result.meta.get('name', 'model')
    for section in (_quality({name: result}), _kinds({name: result}, '')):
        if len(section.frame):
            parts.append(str(section))
    return '\n\n'.join(parts)


def _check_comparable(results: list[SweepResult]) -> None:
    described = pd.DataFrame(
        [
            {
                'score': result.score,
                'convention': result.convention,
                'number of images': result.num_images,
                'split': result.meta.get('split'),
            }
            for result in results
        ]
    )
    for key, values in described.items():
        if values.nunique(dropna=False) > 1:
            raise ValueError(
                f'the sweeps differ in their {key}, so they cannot be '
                f'compared: {values.tolist()}'
            )


def _stack(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put frames below each other, with a column ``model``."""
    named = [
        frame.assign(model=name)
        for name, frame in frames.items()
        if len(frame)
    ]
    return pd.concat(named) if named else pd.DataFrame()


def _ends(rows: pd.DataFrame, score: str) -> dict[str, Any]:
    """Both ends of a curve, and its best point."""
    first, last = rows.iloc[0], rows.iloc[-1]
    found = {
        'full': last[score],
        'best': rows[score].max(),
        'cost': last['mean_cost'],
        'ece': last.get('ece'),
    }
    if len(rows) > 1:
        found |= {
            'exit': first[score],
            'exit_cost': first['mean_cost'],
            'exit_ece': first.get('ece'),
        }
    return found


def _end_columns(score: str) -> list[Column]:
    return [
        Column('exit', f'{score}, all exit', '.2f'),
        Column('full', f'{score}, none exits', '.2f'),
        Column('best', f'{score}, best threshold', '.2f'),
    ]


def _models(runs: Runs, score: str) -> Section:
    rows = [
        {
            'model': name,
            'params': result.meta.get('params', 0) / 1e6 or None,
            'backbone': result.rows.iloc[-1].get('backbone_cost'),
            **_ends(result.rows, score),
        }
        for name, result in runs.items()
    ]
    columns = [
        MODEL,
        Column('params', 'params (M)', '.2f'),
        *_end_columns(score),
        *_cost_columns(score),
    ]
    one = next(iter(runs.values()))
    split = one.meta.get('split')
    data = f'{one.num_images} images' + (
        f' of the {split} split' if split else ''
    )
    intro = f'{data}; MACs in the `{one.convention}` convention.'
    return Section(intro, pd.DataFrame(rows), columns)


def _cost_columns(score: str) -> list[Column]:
    if score != ClassificationScore.name:
        return [
            Column('backbone', 'backbone GMACs, none exits', '.3f'),
            Column('cost', 'GMACs, none exits', '.3f'),
        ]
    return [
        Column('exit_cost', 'GMACs, all exit', '.4f'),
        Column('cost', 'GMACs, none exits', '.4f'),
        Column('exit_ece', 'ECE, all exit', '.2f'),
        Column('ece', 'ECE, none exits', '.2f'),
    ]


def _budgets(runs: Runs, score: str) -> list[Section]:
    """Compare accuracies at shares of a single-stage model's cost."""
    single = {n: r.rows.iloc[0] for n, r in runs.items() if not r.gated}
    gated = {name: result for name, result in runs.items() if result.gated}
    if not single or not gated:
        return []
    name, base = next(iter(single.items()))
    rows = []
    for model, result in gated.items():
        for share in BUDGETS:
            fits = result.rows['mean_cost'] <= share * base['mean_cost']
            within = result.rows[fits].nlargest(1, score)
            row = {'model': model, 'share': f'{share:.0%}'}
            rows.append(
                row | (within.iloc[0].to_dict() if len(within) else {})
            )
    frame = pd.DataFrame(rows)
    if score in frame:
        frame['difference'] = frame[score] - base[score]
    columns = [
        MODEL,
        Column('share', f"GMACs, at most of {name}'s"),
        Column('threshold', 'threshold', '.6g'),
        Column('mean_cost', 'mean GMACs', '.4f'),
        Column(score, score, '.2f'),
        Column('difference', f'against {name}', '+.2f'),
    ]
    intro = (
        f'Most accurate of the swept thresholds within a share of the cost '
        f'of {name} ({base["mean_cost"]:.4f} GMACs, {score} '
        f'{base[score]:.2f}); `-` where even all exits cost more.'
    )
    return [Section(intro, frame, columns)]


def _curves(runs: Runs, score: str) -> Section:
    intro = (
        'Every threshold, from all exit to nobody. `random exits` lets as '
        'many images exit by lot (mean ± standard deviation), `oracle` those '
        'that lose least by it.'
    )
    frame = _stack({name: result.rows for name, result in runs.items()})
    return Section(intro, frame, [MODEL, *sweep_columns(score)])


def _quality(runs: Runs) -> Section:
    frames = {}
    for name, result in runs.items():
        if result.confidence is not None:
            frame = result.confidence.scores.copy()
            own = frame['score'] == result.score
            frame.loc[own, 'order_quality'] = result.confidence.order_quality
            frames[name] = frame
    intro = (
        'Does the confidence tell who gains from refinement? A useful one '
        'correlates negatively with the gain (fine minus coarse score of an '
        'image, in points). Order quality is 0 for random exits and 1 for '
        'the oracle.'
    )
    return Section(intro, _stack(frames), QUALITY_COLUMNS)


def _kinds(runs: Runs, score: str) -> Section:
    frames = {
        name: result.confidence.kinds
        for name, result in runs.items()
        if result.confidence is not None
    }
    head, option = 'exit head', 'backbone.exit_head.confidence'
    if score == ClassificationScore.name:
        head, option = 'classifier', 'model.confidence'
    intro = (
        f'The same {head} with each kind of confidence that it offers '
        f"(`{option}`; the curves above use the config's)."
    )
    return Section(intro, _stack(frames), KIND_COLUMNS)


def _variants(runs: Runs, score: str) -> Section:
    """List what other settings give with the same weights."""
    rows = [
        {'model': name, 'settings': settings, **frame.iloc[-1]}
        for name, result in runs.items()
        for settings, frame in result.variants.items()
    ]
    columns = [
        Column('model', 'weights of'),
        Column('settings', 'with'),
        Column(score, f'{score}, none exits', '.2f'),
        Column('mean_tokens', 'mean tokens', '.1f'),
        Column('mean_cost', 'mean GMACs', '.4f'),
    ]
    intro = (
        'The same weights with other settings, for which nobody trained them.'
    )
    return Section(intro, pd.DataFrame(rows), columns)


def _own_and_variants(result: SweepResult) -> Section:
    """List what other settings give beside the model's own."""
    rows = [
        {'settings': settings, **_ends(frame, result.score)}
        for settings, frame in (
            ('as it is', result.rows),
            *result.variants.items(),
        )
    ]
    columns = [
        Column('settings', 'same weights with'),
        *_end_columns(result.score),
        Column('cost', 'GMACs, none exits', '.4f'),
    ]
    return Section('Other settings:', pd.DataFrame(rows), columns)


def _speeds(runs: Runs) -> Section:
    frame = _stack({name: result.throughput for name, result in runs.items()})
    if not len(frame):
        return Section('', frame, SPEED_COLUMNS)
    devices = ', '.join(sorted(frame['device'].unique()))
    number = ', '.join(map(str, sorted(frame['num_images'].unique())))
    intro = (
        f'Speed of real gated runs on {devices}: median of repeats over '
        f'{number} images that exit in the proportion of the whole set.'
    )
    return Section(intro, frame, SPEED_COLUMNS)


def _chosen(result: SweepResult) -> str:
    """Say what was chosen, and what it gives on the reported split."""
    chosen = dict(result.meta['chosen'])
    row, same = chosen.pop('reported'), chosen.pop('same_images')
    found = result_sentence(row, result.score)
    remark = ' (the very images that it was chosen on)' if same else ''
    return (
        f'{ExitChoice(**chosen).sentence()}; {found} on '
        f'{result.meta["split"]}{remark}'
    )


def _calibrated(found: Mapping[str, Any]) -> str:
    """Say which temperature was fitted, and what it did there."""
    same = ' (the very images reported here)' if found['same_images'] else ''
    return (
        f'temperature {found["temperature"]:.4g} of the coarse prediction, '
        f'fitted to {found["num_images"]} images of {found["split"]}{same}: '
        f'ECE {found["ece_before"]:.2f} -> {found["ece"]:.2f} %, negative '
        f'log-likelihood {found["nll_before"]:.4g} -> {found["nll"]:.4g}'
    )
