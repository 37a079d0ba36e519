"""Pictures of a model on images of a data set, as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from mmscope.visualization.figure_layout import SCORE_THR
from mmscope.visualization.gallery import exit_gallery
from mmscope.visualization.predict import predict_views
from mmscope.visualization.predict_reduction import predict_reductions
from mmscope.visualization.reduction import reduction_figure
from mmscope.visualization.rows import PANEL_WIDTH
from mmscope.visualization.scope import scope_figure
from mmscope.visualization.style import save
from mmscope.visualization.views import View

# Column of a score's difference between both stages.
GAIN = 'gain_'


def draw_scopes(
    model: nn.Module,
    dataset: Any,
    out: str | Path,
    indices: Sequence[int],
    score_thr: float = SCORE_THR,
    panel_width: float = PANEL_WIDTH,
    others: Sequence[str] = (),
) -> list[Path]:
    """Draw where a model looks twice, and what it finds.

    Args:
        model (nn.Module): See :func:`predict_views`.
        dataset (Any): Data set; ``metainfo`` names classes and colours.
        out (str | Path): PNG file for one picture of all images; a folder
            for one of each, and one of all where there are several.
        indices (Sequence[int]): Images.
        score_thr (float): Least score of a box that is drawn. Defaults to
            0.3.
        panel_width (float): Inches. Defaults to 2.9.
        others (Sequence[str]): See :func:`predict_views`. Defaults to none.

    Returns:
        list[Path]: The files, that of all images last. They have a row an
        image, see :func:`scope_figure`.

    Raises:
        ValueError: See :func:`predict_views`.
    """
    views = predict_views(model, dataset, indices, others)
    layout = (*_meta(dataset), score_thr, panel_width)
    return _save_views(scope_figure, views, layout, indices, out, 'scope')


def draw_reductions(
    model: nn.Module,
    dataset: Any,
    out: str | Path,
    indices: Sequence[int],
    score_thr: float = SCORE_THR,
    panel_width: float = PANEL_WIDTH,
) -> list[Path]:
    """Draw what a token reduction leaves, see :func:`reduction_figure`.

    Arguments and files are as those of :func:`draw_scopes`.
    """
    views = predict_reductions(model, dataset, indices)
    layout = (*_meta(dataset), score_thr, panel_width)
    return _save_views(
        reduction_figure, views, layout, indices, out, 'reduction'
    )


def _save_views(
    figure: Callable[..., Figure],
    views: Sequence[View],
    layout: tuple,
    indices: Sequence[int],
    out: str | Path,
    kind: str,
) -> list[Path]:
    """Save a figure of all views; in a folder, also one of each."""
    out = Path(out)
    if out.suffix and not out.is_dir():
        return [save(figure(views, *layout), out)]
    files = [
        save(
            figure([view], *layout),
            out / f'{kind}_{index:04d}_{view.name}.png',
        )
        for index, view in zip(indices, views, strict=True)
    ]
    if len(views) > 1:
        whole = out / f'{kind}_overview.png'
        files.append(save(figure(views, *layout), whole))
    return files


def draw_exit_gallery(
    model: nn.Module,
    dataset: Any,
    path: str | Path,
    images: pd.DataFrame,
    number: int = 5,
) -> Path:
    """Show the images of which the model is most and least sure.

    Raises:
        ValueError: If the sweep is of another data set, or had no gate.
    """
    if len(images) != len(dataset) or 'confidence' not in images:
        raise ValueError(
            f'the sweep has {len(images)} images, the data set '
            f'{len(dataset)}; pass the images of a gated sweep of it'
        )
    confidence = -images['confidence'].to_numpy()
    order = np.argsort(confidence, kind='stable').tolist()
    number = min(number, max(1, len(order) // 2))
    groups = _spread(order, number), _spread(order[::-1], number)
    most, least = (predict_views(model, dataset, group) for group in groups)
    notes = _gains(images)
    classes, palette = _meta(dataset)
    return save(exit_gallery(most, least, classes, palette, notes), path)


def _gains(images: pd.DataFrame) -> dict[str, str]:
    """What refining gains on each image, in the first score of the sweep."""
    column = next((key for key in images if key.startswith(GAIN)), None)
    if column is None:
        return {}
    score = column.removeprefix(GAIN)
    return {
        Path(name).stem: f'refining: {gain:+.1f} {score}'
        for name, gain in zip(images['name'], images[column], strict=True)
        if not np.isnan(gain)
    }


def _spread(order: list[int], number: int) -> list[int]:
    """Take the first indices that are no neighbours (frames of a video)."""
    gap = len(order) // (8 * number)
    chosen: list[int] = []
    for index in order:
        if all(abs(index - other) > gap for other in chosen):
            chosen.append(index)
    return chosen[:number]


def _meta(dataset: Any) -> tuple[Sequence[str], Sequence | None]:
    classes = dataset.metainfo.get('classes')
    if classes is None:
        raise ValueError(
            f'{type(dataset).__name__} does not name its classes: give '
            'metainfo=dict(classes=(...)) in the config'
        )
    return classes, dataset.metainfo.get('palette')
