"""Accuracy against cost, and whether the confidence knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmscope.visualization.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SERIES,
    plain_axes,
)


def curve_figure(results: Sequence[dict], names: Sequence[str]) -> Figure:
    """Draw sweeps: score against cost, and gain against confidence.

    Args:
        results (Sequence[dict]): Sweeps as ``SweepResult.to_dict`` gives
            them or their JSON is read. A model without a gate is a point.
        names (Sequence[str]): Name of each for the legend.

    Returns:
        Figure: Score against mean cost with random and oracle exits of the
        first gated model; beside it every image's gain from refinement over
        its confidence, if a model is gated.

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
    columns = 2 if gated else 1
    figure = Figure(figsize=(6.4 * columns, 4.6), layout='constrained')
    axes = figure.subplots(1, columns, squeeze=False)[0]
    _draw_curves(plain_axes(axes[0]), results, names)
    if gated:
        _draw_gains(plain_axes(axes[1]), gated[0])
    return figure


def _draw_curves(
    axes: Axes, results: Sequence[dict], names: Sequence[str]
) -> None:
    score = results[0]['score']
    compared = False
    for index, (result, name) in enumerate(zip(results, names, strict=True)):
        colour = SERIES[index % len(SERIES)]
        rows = [row for row in result['rows'] if row[score] is not None]
        cost = [row['mean_cost'] for row in rows]
        values = [row[score] for row in rows]
        if len(result['rows']) == 1:
            axes.plot(
                cost,
                values,
                '*',
                markersize=15,
                color=colour,
                label=name,
                markeredgecolor='white',
                zorder=4,
            )
            continue
        if not compared:
            _draw_orders(axes, rows, cost)
            compared = True
        axes.plot(
            cost,
            values,
            'o-',
            color=colour,
            label=name,
            markersize=5,
            linewidth=2,
            zorder=3,
        )
        _label_ends(axes, cost, values, colour)
    axes.set_xlabel('mean cost, GMACs an image (neck and heads included)')
    axes.set_ylabel(f'{score}, %')
    axes.set_title('Score against cost', color=INK)
    axes.margins(x=0.09, y=0.12)
    axes.legend(frameon=False, fontsize=9)


def _draw_orders(axes: Axes, rows: list[dict], cost: list[float]) -> None:
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


def _label_ends(
    axes: Axes, cost: list[float], values: list[float], colour: str
) -> None:
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
            color=colour,
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
