"""Sweeps of several models side by side, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from mmscope.evaluation.classification import ClassificationScore
from mmscope.evaluation.sweep_result import sweep_columns
from mmscope.evaluation.tables import Column, format_table

# Shares of a single-stage model's cost at which accuracies are compared.
BUDGETS = (0.5, 0.75, 1.0)


def comparison(results: Sequence[dict], names: Sequence[str]) -> str:
    """Write the report that ``compare_runs.py`` inserts.

    Args:
        results (Sequence[dict]): Sweeps, see ``SweepResult.to_dict``.
        names (Sequence[str]): Name of each.

    Returns:
        str: Markdown: models, curves, what the confidence knows.

    Raises:
        ValueError: If the sweeps are of other data, scores or conventions.
    """
    _check_comparable(results)
    score = results[0]['score']
    sections = [_models(results, names, score)]
    if score == ClassificationScore.name:
        sections += _budgets(results, names, score)
    sections.append(_curves(results, names, score))
    gated = [
        (result, name)
        for result, name in zip(results, names, strict=True)
        if result['confidence']
    ]
    if gated:
        sections.append(_knowledge(gated))
        if any(result['confidence']['kinds'] for result, _ in gated):
            sections.append(_kinds(gated))
    sections += _variants(results, names, score)
    if any(result['throughput'] for result in results):
        sections.append(_speeds(results, names))
    return '\n\n'.join(sections)


def _check_comparable(results: Sequence[dict]) -> None:
    def of(result: dict) -> dict[str, object]:
        return {
            'score': result['score'],
            'convention': result['convention'],
            'number of images': _number(result),
            'split': result['meta'].get('split'),
        }

    described = [of(result) for result in results]
    for key, value in described[0].items():
        others = [entry[key] for entry in described]
        if any(other != value for other in others):
            raise ValueError(
                f'the sweeps differ in their {key}, so they cannot be '
                f'compared: {others}'
            )


def _number(result: dict) -> int:
    """Images swept; a sweep may leave the single ones out."""
    return result['meta'].get('num_images', len(result['images']))


def _models(results: Sequence[dict], names: Sequence[str], score: str) -> str:
    rows = []
    for result, name in zip(results, names, strict=True):
        first, last = result['rows'][0], result['rows'][-1]
        gated = len(result['rows']) > 1
        best = max(
            (row for row in result['rows'] if row[score] is not None),
            key=lambda row: row[score],
            default=last,
        )
        rows.append(
            {
                'name': name,
                'params': result['meta'].get('params', 0) / 1e6 or None,
                'exit': first[score] if gated else None,
                'full': last[score],
                'best': best[score],
                'exit_cost': first['mean_cost'] if gated else None,
                'cost': last['mean_cost'],
                'backbone': last['backbone_cost'],
                'exit_ece': first.get('ece') if gated else None,
                'ece': last.get('ece'),
            }
        )
    columns = [
        Column('name', 'model'),
        Column('params', 'params (M)', '.2f'),
        Column('exit', f'{score}, all exit', '.2f'),
        Column('full', f'{score}, none exits', '.2f'),
        Column('best', f'{score}, best threshold', '.2f'),
        *_cost_columns(score),
    ]
    number = _number(results[0])
    split = results[0]['meta'].get('split')
    data = f'{number} images' + (f' of the {split} split' if split else '')
    convention = results[0]['convention']
    intro = f'{data}; MACs in the `{convention}` convention.'
    return f'{intro}\n\n{format_table(rows, columns)}'


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


def _budgets(
    results: Sequence[dict], names: Sequence[str], score: str
) -> list[str]:
    """Compare accuracies at shares of a single-stage model's cost."""
    pairs = list(zip(results, names, strict=True))
    single = [(r, name) for r, name in pairs if len(r['rows']) == 1]
    gated = [(r, name) for r, name in pairs if len(r['rows']) > 1]
    if not single or not gated:
        return []
    baseline, baseline_name = single[0]
    (base,) = baseline['rows']
    rows = [
        {
            'name': name,
            'share': f'{share:.0%}',
            **_best_within(result['rows'], share * base['mean_cost'], score),
        }
        for result, name in gated
        for share in BUDGETS
    ]
    for row in rows:
        if row.get(score) is not None:
            row['difference'] = row[score] - base[score]
    columns = [
        Column('name', 'model'),
        Column('share', f"GMACs, at most of {baseline_name}'s", ''),
        Column('threshold', 'threshold', '.6g'),
        Column('mean_cost', 'mean GMACs', '.4f'),
        Column(score, score, '.2f'),
        Column('difference', f'against {baseline_name}', '+.2f'),
    ]
    return [
        f'Most accurate of the swept thresholds within a share of the cost '
        f'of {baseline_name} ({base["mean_cost"]:.4f} GMACs, {score} '
        f'{base[score]:.2f}); `-` where even all exits cost more.\n\n'
        f'{format_table(rows, columns)}'
    ]


def _best_within(rows: Sequence[dict], cost: float, score: str) -> dict:
    within = [row for row in rows if row['mean_cost'] <= cost]
    if not within:
        return {}
    best = max(within, key=lambda row: row[score])
    return {key: best[key] for key in ('threshold', 'mean_cost', score)}


def _curves(results: Sequence[dict], names: Sequence[str], score: str) -> str:
    rows = [
        {'name': name, **row}
        for result, name in zip(results, names, strict=True)
        for row in result['rows']
    ]
    columns = [Column('name', 'model'), *sweep_columns(score)]
    return (
        'Every threshold, from all exit to nobody. `random exits` lets as '
        'many images exit by lot (mean ± standard deviation), `oracle` those '
        f'that lose least by it.\n\n{format_table(rows, columns)}'
    )


def _variants(
    results: Sequence[dict], names: Sequence[str], score: str
) -> list[str]:
    """List what other settings give with the same weights."""
    rows = [
        {'name': name, 'settings': entry['settings'], **entry['rows'][-1]}
        for result, name in zip(results, names, strict=True)
        for entry in result.get('variants', [])
    ]
    if not rows:
        return []
    columns = [
        Column('name', 'weights of'),
        Column('settings', 'with'),
        Column(score, f'{score}, none exits', '.2f'),
        Column('mean_tokens', 'mean tokens', '.1f'),
        Column('mean_cost', 'mean GMACs', '.4f'),
    ]
    return [
        'The same weights with other settings, for which nobody trained '
        f'them.\n\n{format_table(rows, columns)}'
    ]


def _knowledge(gated: Sequence[tuple[dict, str]]) -> str:
    rows = []
    for result, name in gated:
        confidence = result['confidence']
        for key, found in confidence['scores'].items():
            first = key == result['score']
            rows.append(
                {
                    'name': name,
                    'of': key,
                    'mean': found['mean_gain'],
                    'pearson': found['gain']['pearson'],
                    'spearman': found['gain']['spearman'],
                    'coarse': found['coarse_score']['spearman'],
                    'order': confidence['order_quality'] if first else None,
                }
            )
    columns = [
        Column('name', 'model'),
        Column('of', 'score of an image'),
        Column('mean', 'mean gain', '+.2f'),
        Column('pearson', 'r with gain', '+.3f'),
        Column('spearman', 'rank r with gain', '+.3f'),
        Column('coarse', 'rank r with coarse score', '+.3f'),
        Column('order', 'order quality', '+.3f'),
    ]
    return (
        'Does the confidence know who gains from refinement? A useful one '
        'correlates negatively with the gain (fine minus coarse score of an '
        'image, in points). Order quality is 0 for random exits and 1 for '
        f'the oracle.\n\n{format_table(rows, columns)}'
    )


def _kinds(gated: Sequence[tuple[dict, str]]) -> str:
    rows = [
        {'name': name, **found}
        for result, name in gated
        for found in result['confidence']['kinds']
    ]
    columns = [
        Column('name', 'model'),
        Column('kind', 'confidence'),
        Column('pearson', 'r with gain', '+.3f'),
        Column('spearman', 'rank r with gain', '+.3f'),
        Column('order_quality', 'order quality', '+.3f'),
    ]
    head, option = 'exit head', 'backbone.exit_head.confidence'
    if gated[0][0]['score'] == ClassificationScore.name:
        head, option = 'classifier', 'model.confidence'
    return (
        f'The same {head} with each kind of confidence that it offers '
        f'(`{option}`; the curves above use the '
        f"config's).\n\n{format_table(rows, columns)}"
    )


def _speeds(results: Sequence[dict], names: Sequence[str]) -> str:
    rows = [
        {'name': name, **entry}
        for result, name in zip(results, names, strict=True)
        for entry in result['throughput']
    ]
    columns = [
        Column('name', 'model'),
        Column('threshold', 'threshold', '.6g'),
        Column('batch_size', 'batch', 'd'),
        Column('exit_ratio', 'exit ratio of the timed images', '.2f'),
        Column('images_per_s', 'images/s', '.2f'),
        Column('slowest', 'slowest', '.2f'),
        Column('fastest', 'fastest', '.2f'),
    ]
    devices = sorted({row['device'] for row in rows})
    number = sorted({row['num_images'] for row in rows})
    return (
        f'Speed of real gated runs on {", ".join(devices)}: median of '
        f'repeats over {", ".join(map(str, number))} images that exit in the '
        f'proportion of the whole set.\n\n{format_table(rows, columns)}'
    )
