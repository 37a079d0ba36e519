"""The views of one figure: what is drawn of them, and in which colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from mmscope.visualization.style import (
    BoxStyles,
    box_legend,
    box_styles,
    class_legend,
    class_palette,
)
from mmscope.visualization.views import Detections, ImageClasses, View

SCORE_THR = 0.3
MOST_BOXES = 20


@dataclass
class FigureContent:
    """Views of one task, less the boxes that are not drawn.

    Args:
        views (list[View]): With the surest detections only.
        notes (list[list[str]]): Lines about each prediction that no panel
            shows.
        classes (Sequence[str]): Class names.
        styles (np.ndarray | BoxStyles): Palette of label maps, (C, 3) uint8,
            or how boxes of each class look.
    """

    views: list[View]
    notes: list[list[str]]
    classes: Sequence[str]
    styles: np.ndarray | BoxStyles

    @classmethod
    def of(
        cls,
        views: Sequence[View],
        classes: Sequence[str],
        palette: Sequence[Sequence[int]] | None,
        score_thr: float,
    ) -> FigureContent:
        """Choose what is drawn.

        Raises:
            ValueError: If there is no view.
        """
        if not views:
            raise ValueError('there is no image to draw')
        notes = [_note(view, classes, score_thr) for view in views]
        views = [_chosen(view, score_thr) for view in views]
        kind = type(views[0].prediction)
        if kind is Detections:
            boxes = [view.prediction for view in views]
            boxes += [view.label for view in views if view.label is not None]
            styles = box_styles(np.concatenate([b.labels for b in boxes]))
        elif kind is ImageClasses:
            styles = {}
        else:
            styles = class_palette(len(classes), palette)
        return cls(views, notes, classes, styles)

    def shows(self, kind: type) -> bool:
        """Tell whether the predictions are of a kind of content."""
        return isinstance(self.views[0].prediction, kind)

    def legend(self, truth: bool) -> list:
        """Name the classes to be seen; none where they are written out.

        Classes of the ground truth of label maps belong to it if it is drawn.
        """
        if self.shows(ImageClasses):
            return []
        if self.shows(Detections):
            return box_legend(self.classes, self.styles)
        maps = [view.prediction for view in self.views]
        if truth:
            known = [view.label for view in self.views]
            maps += [label for label in known if label is not None]
        return class_legend(self.classes, self.styles, maps)


def _chosen(view: View, score_thr: float) -> View:
    """Leave out the boxes that are not drawn."""
    if not isinstance(view.prediction, Detections):
        return view
    shown, _ = view.prediction.surest(score_thr, MOST_BOXES)
    return replace(view, prediction=shown)


def _note(view: View, classes: Sequence[str], score_thr: float) -> list[str]:
    """Say what the prediction is where no panel does."""
    if isinstance(view.prediction, Detections):
        shown, number = view.prediction.surest(score_thr, MOST_BOXES)
        if number > len(shown):
            return [f'{number} found,', f'best {len(shown)} drawn']
        return [f'{number} found']
    if not isinstance(view.prediction, ImageClasses):
        return []
    found, true = view.prediction, view.label
    pairs = zip(found.labels, found.scores, strict=True)
    lines = [f'{classes[label]} {score:.2f}' for label, score in pairs]
    if true is not None and sorted(true.labels) != sorted(found.labels):
        lines += [f'true: {classes[label]}' for label in true.labels]
    return lines or ['no class found']


def add_legend(figure: Figure, handles: list) -> None:
    """Put a legend below a figure, in as few rows as fit."""
    if not handles:
        return
    most = max(1, int(figure.get_figwidth() // 1.35))
    rows = max(1, math.ceil(len(handles) / most))
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=max(1, math.ceil(len(handles) / rows)),
        fontsize=9.5,
        frameon=False,
        handlelength=1.2,
        handleheight=1.0,
    )
