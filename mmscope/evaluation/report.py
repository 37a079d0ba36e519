"""Sweeps as Markdown: one for a terminal, several side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
Runs = Mapping[str, SweepResult]


@dataclass(frozen=True)
class Section:
    """One table of a report.

    Args:
        intro (str): What it shows.
        frame (pd.DataFrame): Its rows; without any it is left out.
        columns (tuple[Column, ...]): Its columns.
    """

    intro: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]


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
    return '\n\n'.join(
        f'{one.intro}\n\n{format_table(one.frame, one.columns)}'
        for one in (
            _models(runs, score),
            _budgets(runs, score),
            _curves(runs, score),
            _quality(runs),
            _kinds(runs, score),
            _variants(runs, score),
            _speeds(runs),
        )
        if len(one.frame)
    )


def summary(result: SweepResult) -> str:
    """Write what people want to read of one sweep.

    Args:
        result (SweepResult): The sweep.

    Returns:
        str: Tables and, where they were asked for, the fitted temperature
        and the chosen threshold.
    """
    runs = {result.meta.get('name', 'model'): result}
    quality = (_variants, _quality, _kinds)
    sections = [
        one(runs) if one is _quality else one(runs, result.score)
        for one in quality
    ]
    tables = [
        format_table(one.frame, one.columns)
        for one in sections
        if len(one.frame)
    ]
    return '\n\n'.join([result.table(), *_remarks(result), *tables])


def _check_comparable(results: list[SweepResult]) -> None:
    described = {
        'score': [result.score for result in results],
        'convention': [result.convention for result in results],
        'number of images': [result.num_images for result in results],
        'split': [result.meta.get('split') for result in results],
    }
    for key, values in described.items():
        if len(set(values)) > 1:
            raise ValueError(
                f'the sweeps differ in their {key}, so they cannot be '
                f'compared: {values}'
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
    ends = {'full': rows.iloc[-1]}
    found = {}
    if len(rows) > 1:
        ends['exit'] = rows.iloc[0]
        found['best'] = rows[score].max()
    for end, row in ends.items():
        found |= {f'{end}_{key}': value for key, value in row.items()}
    return found


def _end_columns(score: str) -> tuple[Column, ...]:
    return (
        Column(f'exit_{score}', f'{score}, all exit', '.2f'),
        Column(f'full_{score}', f'{score}, none exits', '.2f'),
        Column('best', f'{score}, best threshold', '.2f'),
    )


def _models(runs: Runs, score: str) -> Section:
    rows = [
        {
            'model': name,
            'params': result.meta.get('params', 0) / 1e6 or None,
            **_ends(result.rows, score),
        }
        for name, result in runs.items()
    ]
    costs = (
        Column('full_backbone_cost', 'backbone GMACs, none exits', '.3f'),
        Column('full_mean_cost', 'GMACs, none exits', '.3f'),
    )
    if score == ClassificationScore.name:
        costs = (
            Column('exit_mean_cost', 'GMACs, all exit', '.4f'),
            Column('full_mean_cost', 'GMACs, none exits', '.4f'),
            Column('exit_ece', 'ECE, all exit', '.2f'),
            Column('full_ece', 'ECE, none exits', '.2f'),
        )
    params = Column('params', 'params (M)', '.2f')
    one = next(iter(runs.values()))
    split = one.meta.get('split')
    intro = (
        f'{one.num_images} images'
        + (f' of the {split} split' if split else '')
        + f'; MACs in the `{one.convention}` convention.'
    )
    columns = (MODEL, params, *_end_columns(score), *costs)
    return Section(intro, pd.DataFrame(rows), columns)


def _budgets(runs: Runs, score: str) -> Section:
    """Compare a classifier's accuracy at shares of a single stage's cost."""
    single = [name for name, result in runs.items() if not result.gated]
    if score != ClassificationScore.name or len(single) in (0, len(runs)):
        return Section('', pd.DataFrame(), ())
    name = single[0]
    base = runs[name].rows.iloc[0]
    rows = []
    for model, result in runs.items():
        for share in BUDGETS if result.gated else ():
            fits = result.rows['mean_cost'] <= share * base['mean_cost']
            best = result.rows[fits].nlargest(1, score).to_dict('records')
            rows.append({'model': model, 'share': f'{share:.0%}'})
            rows[-1] |= best[0] if best else {score: None}
    frame = pd.DataFrame(rows)
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
        f'Most accurate of the swept thresholds within a share of the cost '
        f'of {name} ({base["mean_cost"]:.4f} GMACs, {score} '
        f'{base[score]:.2f}); `-` where even all exits cost more.'
    )
    return Section(intro, frame, columns)


def _curves(runs: Runs, score: str) -> Section:
    intro = (
        'Every threshold, from all exit to nobody. `random exits` lets as '
        'many images exit by lot (mean ± standard deviation), `oracle` those '
        'that lose least by it.'
    )
    frame = _stack({name: result.rows for name, result in runs.items()})
    return Section(intro, frame, (MODEL, *sweep_columns(score)))


def _quality(runs: Runs) -> Section:
    frames = {}
    for name, result in runs.items():
        if result.confidence is not None:
            scores, quality = result.confidence.scores, result.confidence
            own = scores['score'] == result.score
            frames[name] = scores.assign(
                order_quality=own.map({True: quality.order_quality})
            )
    intro = (
        'Does the confidence tell who gains from refinement? A useful one '
        'correlates negatively with the gain (fine minus coarse score of an '
        'image, in points). Order quality is 0 for random exits and 1 for '
        'the oracle.'
    )
    return Section(intro, _stack(frames), QUALITY)


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
    return Section(intro, _stack(frames), KINDS)


def _variants(runs: Runs, score: str) -> Section:
    """List what other settings give with the same weights."""
    rows = [
        {'model': name, 'settings': settings, **_ends(frame, score)}
        for name, result in runs.items()
        for settings, frame in result.variants.items()
    ]
    columns = (
        Column('model', 'weights of'),
        Column('settings', 'with'),
        *_end_columns(score),
        Column('full_mean_tokens', 'mean tokens', '.1f'),
        Column('full_mean_cost', 'mean GMACs', '.4f'),
    )
    intro = (
        'The same weights with other settings, for which nobody trained them.'
    )
    return Section(intro, pd.DataFrame(rows), columns)


def _speeds(runs: Runs) -> Section:
    frame = _stack({name: result.throughput for name, result in runs.items()})
    if not len(frame):
        return Section('', frame, SPEEDS)
    devices = ', '.join(sorted(frame['device'].unique()))
    number = ', '.join(map(str, sorted(frame['num_images'].unique())))
    intro = (
        f'Speed of real gated runs on {devices}: median of repeats over '
        f'{number} images that exit in the proportion of the whole set.'
    )
    return Section(intro, frame, SPEEDS)


def _remarks(result: SweepResult) -> Iterator[str]:
    """Say which temperature was fitted, and which threshold chosen."""
    fit = result.meta.get('calibration')
    if fit is not None:
        same = ' (the very images reported here)' if fit['same_images'] else ''
        yield (
            f'temperature {fit["temperature"]:.4g} of the coarse prediction, '
            f'fitted to {fit["num_images"]} images of {fit["split"]}{same}: '
            f'ECE {fit["ece_before"]:.2f} -> {fit["ece"]:.2f} %, negative '
            f'log-likelihood {fit["nll_before"]:.4g} -> {fit["nll"]:.4g}'
        )
    if 'chosen' in result.meta:
        choice = dict(result.meta['chosen'])
        row, same = choice.pop('reported'), choice.pop('same_images')
        remark = ' (the very images that it was chosen on)' if same else ''
        yield (
            f'{ExitChoice(**choice).sentence()}; '
            f'{result_sentence(row, result.score)} on '
            f'{result.meta["split"]}{remark}'
        )
