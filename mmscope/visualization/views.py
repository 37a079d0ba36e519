"""What a picture shows of one image: where the model looked, what it found."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Detections:
    """Boxes in pixels of the picture, found or true.

    Args:
        boxes (np.ndarray): Left, top, right, bottom, (N, 4) float.
        labels (np.ndarray): Classes, (N,) int.
        scores (np.ndarray | None): Scores in [0, 1], (N,); None for true
            boxes. Defaults to None.
        masks (np.ndarray | None): Masks of the whole picture at any
            resolution, (N, H', W') bool. Defaults to None.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def keep(self, index: np.ndarray) -> Detections:
        """Choose some by their indices, or (N,) bool."""
        fields = self.boxes, self.labels, self.scores, self.masks
        return Detections(
            *(None if field is None else field[index] for field in fields)
        )

    def surest(self, score_thr: float, most: int) -> tuple[Detections, int]:
        """Choose the best, so many at most; true boxes have no score and stay.

        Beside them comes how many reach the score.
        """
        if self.scores is None:
            return self, len(self)
        order = np.argsort(-self.scores, kind='stable')
        order = order[self.scores[order] >= score_thr]
        return self.keep(order[:most]), len(order)


@dataclass
class ImageClasses:
    """Classes of the whole image: one, or where labels are several any number.

    Args:
        labels (list[int]): Classes.
        scores (list[float] | None): Their probabilities; None for true ones.
            Defaults to None.
    """

    labels: list[int]
    scores: list[float] | None = None


# A label map is (H', W') int of the same image, at any resolution.
Content = np.ndarray | Detections | ImageClasses


@dataclass(kw_only=True)
class View:
    """One image, what was found in it and what is true of it.

    Args:
        name (str): Name of the image.
        image (np.ndarray): RGB, (H, W, 3) uint8, as the model saw it.
        prediction (np.ndarray | Detections | ImageClasses): Label map,
            boxes, or classes.
        label (np.ndarray | Detections | ImageClasses | None): The same of the
            ground truth, None where it is unknown.
        canvas (tuple[float, float]): Height and width that the grid of
            regions or patches covers, in pixels of the image; padding makes
            it larger.
    """

    name: str
    image: np.ndarray
    prediction: Content
    label: Content | None
    canvas: tuple[float, float]

    def verdict(self) -> str:
        """Say in a few words, parted by ', ', what the model did."""
        return ''


@dataclass(kw_only=True)
class ScopeView(View):
    """One image and where a two-stage model looked twice.

    Args:
        importance (np.ndarray): Token importance on the coarse grid, (h, w).
        refined (np.ndarray): Refined regions, (h, w) bool.
        exited (bool): Whether the image left after the coarse stage.
        confidence (float | None): Confidence, None without a gate.
        threshold (float | None): Exit threshold that decided, None without.
            Defaults to None.
        others (dict[str, np.ndarray]): What other metrics would have found
            important, (h, w) each. Defaults to none.
    """

    importance: np.ndarray
    refined: np.ndarray
    exited: bool
    confidence: float | None
    threshold: float | None = None
    others: dict[str, np.ndarray] = field(default_factory=dict)

    def verdict(self) -> str:
        """Say whether the image exits, and how sure the model was."""
        if self.exited:
            text = 'exits early'
        else:
            text = f'{self.refined.sum()} of {self.refined.size} refined'
        if self.confidence is None:
            return text
        return f'{text}, confidence {self.confidence:.4f}'


@dataclass(kw_only=True)
class StageView:
    """What one stage of a token reduction left of an image.

    Args:
        tokens (int): Tokens that are left, summary tokens included.
        kept (np.ndarray | None): Patches that are left, (h, w) bool; None
            where tokens are merged. Defaults to None.
        groups (np.ndarray | None): Token that stands for each patch, (h, w)
            int; None where tokens are pruned. Defaults to None.
    """

    tokens: int
    kept: np.ndarray | None = None
    groups: np.ndarray | None = None


@dataclass(kw_only=True)
class ReductionView(View):
    """One image and how its tokens became fewer.

    Args:
        tokens (int): Tokens before the first stage, summary tokens included.
        stages (list[StageView]): In the order in which they ran.
        directions (tuple[int, int] | None): Scan directions that ran, and of
            how many; None where all did. Defaults to None.
    """

    tokens: int
    stages: list[StageView]
    directions: tuple[int, int] | None = None

    def verdict(self) -> str:
        """Say how many tokens are left, and how many directions ran."""
        left = self.stages[-1].tokens if self.stages else self.tokens
        text = f'{left} of {self.tokens} tokens left'
        if self.directions is None:
            return text
        ran, number = self.directions
        return f'{text}, {ran} of {number} directions'
