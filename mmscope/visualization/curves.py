"""Accuracy against cost, and whether the confidence knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmscope.visualization.stages import draw_confidence_bins, draw_stages
from mmscope.visualization.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SERIES,
    plain_axes,
)

FEW_CURVES = 2
UNTRAINED = 'same weights, other settings, untrained'
STAR = {'markersize': 15, 'markeredgecolor': 'white'}
CURVE = {'markersize': 5, 'linewidth': 2}


def curve_figure(results: Sequence[dict], names: Sequence[str]) -> Figure:
    """Draw sweeps: score against cost, and gain against confidence.

    Args:
        results (Sequence[dict]): Sweeps as ``SweepResult.to_dict`` gives
            them or their JSON is read. A model without a gate is a point,
            with a thin line through its other settings, untrained.
        names (Sequence[str]): Name of each for the legend.

    Returns:
        Figure: Score against mean cost with random and oracle exits of the
        first gated model; beside it, if a model is gated, what its
        confidence knows: every image's gain from refinement, or of a
        classifier who is right at which stage and at which confidence. If
        none is gated and all were timed, score against images/s.

    Raises:
        ValueError: If there is no result, or they have different scores.
    """
    scores = {result['score'] for result in results}
    if len(scores) != 1:
        raise ValueError(
            'sweeps to compare need one score in common, got '
            f'{sorted(scores) or "no sweep"}'
        )
    gated = [result for result in results if len(result['rows']) > 1]
    details = _details(gated[0]) if gated else []
    timed = not gated and all(
        result['rows'][0].get('images_per_s') for result in results
    )
    columns = 1 + len(details) + timed
    figure = Figure(figsize=(6.4 * columns, 4.6), layout='constrained')
    axes = figure.subplots(1, columns, squeeze=False)[0]
    _draw_curves(plain_axes(axes[0]), results, names)
    if timed:
        _draw_speeds(plain_axes(axes[1]), results)
    for panel, draw in zip(axes[1 + timed :], details, strict=True):
        draw(plain_axes(panel), gated[0])
    return figure


def _draw_speeds(axes: Axes, results: Sequence[dict]) -> None:
    """Draw models of one point each, in the colours of their costs."""
    score = results[0]['score']
    for index, result in enumerate(results):
        (row,) = result['rows']
        colour = SERIES[index % len(SERIES)]
        axes.plot(row['images_per_s'], row[score], '*', color=colour, **STAR)
    batch = min(entry['batch_size'] for entry in results[0]['throughput'])
    axes.set_xlabel(f'images/s, batch {batch}')
    axes.set_ylabel(f'{score}, %')
    axes.set_title('Score against speed', color=INK)
    axes.margins(x=0.09, y=0.12)


def _details(result: dict) -> list[Callable[[Axes, dict], None]]:
    """Choose what is drawn of one gated model."""
    if 'bins' in result['confidence']:
        return [draw_stages, draw_confidence_bins]
    return [_draw_gains] if result['images'] else []


def _draw_curves(
    axes: Axes, results: Sequence[dict], names: Sequence[str]
) -> None:
    score = results[0]['score']
    gated = [result for result in results if len(result['rows']) > 1]
    # More curves than that leave no room for anything beside them.
    few = len(gated) <= FEW_CURVES
    if gated and few:
        _draw_orders(axes, gated[0])
    for index, (result, name) in enumerate(zip(results, names, strict=True)):
        single = len(result['rows']) == 1
        turn, place = divmod(index, len(SERIES))
        (line,) = axes.plot(
            *_points(result),
            '*' if single else 'o',
            linestyle='none' if single else ('-', '--', ':')[turn % 3],
            color=SERIES[place],
            label=name,
            zorder=4 if single else 3,
            **(STAR if single else CURVE),
        )
        if single and result.get('variants'):
            _draw_untrained(axes, result, line.get_color())
        if not single and few:
            _label_ends(axes, line)
    axes.set_xlabel('mean cost, GMACs an image (heads included)')
    axes.set_ylabel(f'{score}, %')
    axes.set_title('Score against cost', color=INK)
    axes.margins(x=0.09, y=0.12)
    axes.legend(frameon=False, fontsize=9)


def _draw_untrained(axes: Axes, result: dict, colour: str) -> None:
    """Draw what the same weights give with other settings."""
    ends = [{**result, 'rows': entry['rows']} for entry in result['variants']]
    costs, scores = (
        sum(found, []) for found in zip(*map(_points, ends), strict=True)
    )
    order = np.argsort(costs)
    known = axes.get_legend_handles_labels()[1]
    axes.plot(
        np.array(costs)[order],
        np.array(scores)[order],
        '.:',
        color=colour,
        linewidth=1.2,
        # Once in the legend: its colour is the model's.
        label=None if UNTRAINED in known else UNTRAINED,
    )


def _points(result: dict) -> tuple[list[float], list[float]]:
    """Costs and scores of the rows that have a score."""
    score = result['score']
    rows = [row for row in result['rows'] if row[score] is not None]
    return [row['mean_cost'] for row in rows], [row[score] for row in rows]


def _draw_orders(axes: Axes, result: dict) -> None:
    rows = [row for row in result['rows'] if row[result['score']] is not None]
    cost = [row['mean_cost'] for row in rows]
    random = np.array([row['random'] for row in rows])
    spread = np.array([row['random_std'] for row in rows])
    axes.fill_between(
        cost,
        random - spread,
        random + spread,
        color=GREY,
        alpha=0.25,
        linewidth=0,
    )
    axes.plot(cost, random, '--', color=GREY, label='random exits ± std')
    oracle = [row['oracle'] for row in rows]
    axes.plot(cost, oracle, ':', color=GREEN, label='oracle order')


def _label_ends(axes: Axes, line: Line2D) -> None:
    cost, values = line.get_data()
    ends = [
        ('all exit', np.argmin(cost), -14),
        ('none exits', np.argmax(cost), 7),
    ]
    for text, index, offset in ends:
        axes.annotate(
            text,
            (cost[index], values[index]),
            textcoords='offset points',
            xytext=(0, offset),
            ha='center',
            fontsize=8.5,
            color=line.get_color(),
            bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.5},
        )


def _draw_gains(axes: Axes, result: dict) -> None:
    score = result['score']
    key = f'gain_{score}'
    known = [image for image in result['images'] if image[key] is not None]
    confidence = [image['confidence'] for image in known]
    gain = [image[key] for image in known]
    axes.axhline(0, color=GREY, linewidth=1)
    axes.scatter(confidence, gain, s=16, color=BLUE, alpha=0.6, linewidths=0)
    _draw_trend(axes, np.array(confidence), np.array(gain))
    found = result['confidence']['scores'][score]['gain']
    axes.set_xlabel('confidence after the coarse stage')
    axes.set_ylabel(f'gain from refinement, {score} points')
    axes.set_title(
        'Does the confidence know who gains?  '
        f'r = {_signed(found["pearson"])}, '
        f'rank r = {_signed(found["spearman"])}',
        color=INK,
        fontsize=11,
    )


def _draw_trend(
    axes: Axes, confidence: np.ndarray, gain: np.ndarray, bins: int = 6
) -> None:
    """Mark the mean gain of equally many images a bin."""
    if len(gain) < 3 * bins:
        return
    groups = np.array_split(np.argsort(confidence, kind='stable'), bins)
    axes.plot(
        [confidence[group].mean() for group in groups],
        [gain[group].mean() for group in groups],
        'o-',
        color=ORANGE,
        linewidth=2,
        label='mean of each sixth of the images',
    )
    axes.legend(frameon=False, fontsize=9)


def _signed(value: float | None) -> str:
    return 'undefined' if value is None else f'{value:+.2f}'
