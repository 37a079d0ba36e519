"""Accuracy against cost, and whether the confidence tells who gains."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmscope.evaluation.exit_costs import costs_by_lot, costs_in_order
from mmscope.evaluation.sweep_result import SweepResult
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
TREND_BINS = 6


def curve_figure(runs: Mapping[str, SweepResult]) -> Figure:
    """Draw sweeps: score against cost, and gain against confidence.

    Args:
        runs (Mapping[str, SweepResult]): Sweeps by name, for the legend. A
            model without a gate is a point, with a thin line through its
            other settings, untrained.

    Returns:
        Figure: Score against mean cost with random and oracle exits of the
        first gated model; beside it, if a model is gated, the quality of its
        confidence: every image's gain from refinement, or of a classifier
        who is right at which stage and at which confidence. If none is gated
        and all were timed, score against images/s.

    Raises:
        ValueError: If there is no sweep, or they have different scores.
    """
    scores = {result.score for result in runs.values()}
    if len(scores) != 1:
        raise ValueError(
            'sweeps to compare need one score in common, got '
            f'{sorted(scores) or "no sweep"}'
        )
    gated = [result for result in runs.values() if result.gated]
    details = _details(gated[0]) if gated else []
    timed = not gated and all(
        'images_per_s' in result.rows for result in runs.values()
    )
    columns = 1 + len(details) + timed
    figure = Figure(figsize=(6.4 * columns, 4.6), layout='constrained')
    axes = figure.subplots(1, columns, squeeze=False)[0]
    _draw_curves(plain_axes(axes[0]), runs)
    if timed:
        _draw_speeds(plain_axes(axes[1]), list(runs.values()))
    for panel, draw in zip(axes[1 + timed :], details, strict=True):
        draw(plain_axes(panel), gated[0])
    return figure


def _draw_speeds(axes: Axes, results: list[SweepResult]) -> None:
    """Draw models of one point each, in the colours of their costs."""
    score = results[0].score
    for index, result in enumerate(results):
        colour = SERIES[index % len(SERIES)]
        speed, value = result.rows['images_per_s'], result.rows[score]
        axes.plot(speed, value, '*', color=colour, **STAR)
    batch = results[0].throughput['batch_size'].min()
    axes.set_xlabel(f'images/s, batch {batch}')
    axes.set_ylabel(f'{score}, %')
    axes.set_title('Score against speed', color=INK)
    axes.margins(x=0.09, y=0.12)


def _details(result: SweepResult) -> list[Callable[[Axes, SweepResult], None]]:
    """Choose what is drawn of one gated model."""
    if len(result.confidence.bins):
        return [draw_stages, draw_confidence_bins]
    return [_draw_gains] if len(result.images) else []


def _draw_curves(axes: Axes, runs: Mapping[str, SweepResult]) -> None:
    gated = [result for result in runs.values() if result.gated]
    # More curves than that leave no room for anything beside them.
    few = len(gated) <= FEW_CURVES
    if gated and few:
        _draw_orders(axes, gated[0])
    for index, (name, result) in enumerate(runs.items()):
        line = _draw_run(axes, result, name, index)
        if not result.gated and result.variants:
            _draw_untrained(axes, result, line.get_color())
        if result.gated and few:
            _label_ends(axes, line)
    score = next(iter(runs.values())).score
    axes.set_xlabel('mean cost, GMACs an image (heads included)')
    axes.set_ylabel(f'{score}, %')
    axes.set_title('Score against cost', color=INK)
    axes.margins(x=0.09, y=0.12)
    axes.legend(frameon=False, fontsize=9)


def _draw_run(
    axes: Axes, result: SweepResult, name: str, index: int
) -> Line2D:
    """Draw a curve, or the one point of a model without a gate."""
    turn, place = divmod(index, len(SERIES))
    style = {'marker': '*', 'linestyle': 'none', 'zorder': 4, **STAR}
    if result.gated:
        dashes = ('-', '--', ':')[turn % 3]
        style = {'marker': 'o', 'linestyle': dashes, 'zorder': 3, **CURVE}
    known = result.rows.dropna(subset=[result.score])
    (line,) = axes.plot(
        known['mean_cost'],
        known[result.score],
        color=SERIES[place],
        label=name,
        **style,
    )
    return line


def _draw_untrained(axes: Axes, result: SweepResult, colour: str) -> None:
    """Draw what the same weights give with other settings."""
    ends = pd.concat(result.variants.values()).dropna(subset=[result.score])
    ends = ends.sort_values('mean_cost', kind='stable')
    known = axes.get_legend_handles_labels()[1]
    axes.plot(
        ends['mean_cost'],
        ends[result.score],
        '.:',
        color=colour,
        linewidth=1.2,
        # Once in the legend: its colour is the model's.
        label=None if UNTRAINED in known else UNTRAINED,
    )


def _draw_orders(axes: Axes, result: SweepResult) -> None:
    rows = result.rows.dropna(subset=[result.score])
    random, spread = rows['random'], rows['random_std']
    cost = costs_by_lot(result.rows).loc[rows.index]
    axes.fill_between(
        cost,
        random - spread,
        random + spread,
        color=GREY,
        alpha=0.25,
        linewidth=0,
    )
    axes.plot(cost, random, '--', color=GREY, label='random exits ± std')
    cost = _oracle_costs(result).loc[rows.index]
    axes.plot(cost, rows['oracle'], ':', color=GREEN, label='oracle order')


def _oracle_costs(result: SweepResult) -> pd.Series:
    """Mean costs where those exit who gain least.

    Those of the gate's own exits where single images are not known.
    """
    images, rows = result.images, result.rows
    if not len(images) or 'exit_cost' not in images:
        return rows['mean_cost']
    ends = (images[f'{end}_cost'].to_numpy() for end in ('exit', 'full'))
    gain = images[f'gain_{result.score}'].fillna(0)
    means = costs_in_order(*ends, np.argsort(gain.to_numpy(), kind='stable'))
    counts = (rows['exit_ratio'] * len(images)).round().astype(int)
    return counts.map(lambda count: means[count])


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


def _draw_gains(axes: Axes, result: SweepResult) -> None:
    score = result.score
    known = result.images.dropna(subset=[f'gain_{score}'])
    confidence, gain = known['confidence'], known[f'gain_{score}']
    axes.axhline(0, color=GREY, linewidth=1)
    axes.scatter(confidence, gain, s=16, color=BLUE, alpha=0.6, linewidths=0)
    if len(gain) >= 3 * TREND_BINS:
        _draw_trend(axes, confidence, gain)
    found = result.confidence.scores.set_index('score').loc[score]
    axes.set_xlabel('confidence after the coarse stage')
    axes.set_ylabel(f'gain from refinement, {score} points')
    axes.set_title(
        'Does the confidence tell who gains?  '
        f'r = {_signed(found["gain_pearson"])}, '
        f'rank r = {_signed(found["gain_spearman"])}',
        color=INK,
        fontsize=11,
    )


def _draw_trend(axes: Axes, confidence: pd.Series, gain: pd.Series) -> None:
    """Mark the mean gain of equally many images a bin."""
    order = np.argsort(confidence.to_numpy(), kind='stable')
    groups = np.array_split(order, TREND_BINS)
    axes.plot(
        [confidence.iloc[group].mean() for group in groups],
        [gain.iloc[group].mean() for group in groups],
        'o-',
        color=ORANGE,
        linewidth=2,
        label='mean of each sixth of the images',
    )
    axes.legend(frameon=False, fontsize=9)


def _signed(value: float) -> str:
    return 'undefined' if pd.isna(value) else f'{value:+.2f}'
