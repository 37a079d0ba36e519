"""What token reductions keep and merge, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmscope.visualization.figure_layout import SCORE_THR, FigureContent
from mmscope.visualization.panels import draw_image
from mmscope.visualization.regions import draw_groups, draw_kept
from mmscope.visualization.rows import PANEL_WIDTH, Panel, rows_figure
from mmscope.visualization.views import ReductionView, StageView

MOST_STAGES = 4


def reduction_figure(
    views: Sequence[ReductionView],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    score_thr: float = SCORE_THR,
    panel_width: float = PANEL_WIDTH,
) -> Figure:
    """Draw one row of panels for each image; see :func:`scope_figure`.

    Image, what at most four stages kept or merged, see :func:`shown_stages`,
    and, unless an image has one class as a whole, prediction and ground truth.
    """
    shown = FigureContent.of(views, classes, palette, score_thr)
    figure, _, _ = rows_figure(shown, _panels(views), panel_width, score_thr)
    return figure


def shown_stages(number: int) -> list[int]:
    """Choose four stages at most: the first, two between, and the last."""
    places = np.linspace(0, number - 1, min(number, MOST_STAGES))
    return [int(place) for place in places.round()]


def _panels(views: Sequence[ReductionView]) -> list[Panel]:
    # Images of other sizes may have gone through fewer stages.
    stages = max((view.stages for view in views), key=len)
    return [
        ('image', draw_image),
        *(
            (_title(stages[0]), partial(_draw_stage, place=place))
            for place in range(len(shown_stages(len(stages))))
        ),
    ]


def _title(stage: StageView) -> str:
    return 'merged patches' if stage.kept is None else 'kept patches'


def _draw_stage(axes: Axes, view: ReductionView, place: int) -> None:
    shown, number = shown_stages(len(view.stages)), len(view.stages)
    if place >= len(shown):
        axes.set_axis_off()
        return
    stage = view.stages[shown[place]]
    draw = draw_groups if stage.kept is None else draw_kept
    draw(axes, view, stage)
    axes.set_xlabel(
        f'stage {shown[place] + 1} of {number}\n'
        f'{stage.tokens} of {view.tokens} tokens',
        fontsize=8.5,
    )
