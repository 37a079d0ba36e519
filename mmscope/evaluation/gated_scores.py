"""What a sweep asks of a task: its score where some images exit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

STAGES = ('coarse', 'fine')


class ScoredImages(Protocol):
    """The n images of a data set, ready to be scored at either exit.

    Attributes:
        name (str): Name of the data-set score, in percent.
    """

    name: str

    def total(
        self, exits: np.ndarray, among: np.ndarray | None = None
    ) -> np.ndarray:
        """Score the data set where some images exit, in percent.

        Args:
            exits (np.ndarray): Who counts with the coarse prediction,
                (..., n) bool.
            among (np.ndarray | None): The images scored, (n,) bool; None for
                all. Defaults to None.

        Returns:
            np.ndarray: (...), NaN where there is nothing to score.
        """

    def extras(self, exits: np.ndarray) -> dict[str, np.ndarray]:
        """Score the same by the further names that a task has."""

    def after_first(self, order: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Score the data set where the first images of an order exit.

        Args:
            order (np.ndarray): Permutation of the images, (n,).
            counts (np.ndarray): How many of them exit, (m,).

        Returns:
            np.ndarray: Percent, (m,).
        """

    def per_image(self, stage: str) -> pd.DataFrame:
        """Score each image by itself.

        Args:
            stage (str): 'coarse' or 'fine'.

        Returns:
            pd.DataFrame: n rows in percent, NaN where an image has nothing
            to score. The first column ranks images in the oracle and has the
            name of the data-set score.
        """


class ImageScore(Protocol):
    """What a sweep needs to know about a task."""

    def measure(self, sample: Any) -> Any:
        """Reduce one predicted data sample to its statistics."""

    def describe(
        self, sample: Any
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Name what is worth keeping of the truth and of the prediction."""

    def gather(self, coarse: Sequence | None, fine: Sequence) -> ScoredImages:
        """Put the statistics of all images together, coarse ones of a gate."""


class AdditiveScore:
    """Base of scores whose statistics may be summed over images.

    An image is K numbers, an (K,) array from :meth:`measure`. A data-set
    score is a function of their sum, ``total``, and so are further ones,
    ``extras``; ``per_image`` scores images (n, K) one by one.
    """

    name: str

    def gather(
        self, coarse: Sequence | None, fine: Sequence
    ) -> AdditiveImages:
        """Put the statistics of all images together, (K,) each."""
        return AdditiveImages(self, coarse, fine)

    def total(self, statistics: np.ndarray) -> np.ndarray:
        """Score summed statistics (..., K) in percent, (...)."""
        raise NotImplementedError

    def per_image(self, statistics: np.ndarray) -> pd.DataFrame:
        """Score images (n, K) in percent, n rows."""
        raise NotImplementedError

    def extras(self, statistics: np.ndarray) -> dict[str, np.ndarray]:
        """Give no further data-set scores."""
        return {}

    def describe(
        self, sample: Any
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Keep nothing but the statistics."""
        return {}, {}


class AdditiveImages:
    """Images whose statistics may be summed; see :class:`ScoredImages`.

    Args:
        score (AdditiveScore): Their score.
        coarse (Sequence | None): Statistics after the coarse stage, (n, K).
        fine (Sequence): Statistics after the fine stage, (n, K).
    """

    def __init__(
        self, score: AdditiveScore, coarse: Sequence | None, fine: Sequence
    ) -> None:
        self.name = score.name
        self.score = score
        # float64 holds pixel counts exactly and has a fast product.
        self.fine = np.asarray(fine, dtype=np.float64)
        self.coarse = self.fine
        if coarse is not None:
            self.coarse = np.asarray(coarse, dtype=np.float64)

    def total(
        self, exits: np.ndarray, among: np.ndarray | None = None
    ) -> np.ndarray:
        """Score the data set where some images exit."""
        return self.score.total(self._sums(exits, among))

    def extras(self, exits: np.ndarray) -> dict[str, np.ndarray]:
        """Score the same by the score's further names."""
        return self.score.extras(self._sums(exits, None))

    def after_first(self, order: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Score every beginning of an order with one cumulative sum."""
        change = (self.coarse - self.fine)[order]
        sums = np.pad(change.cumsum(0), ((1, 0), (0, 0)))
        return self.score.total(self.fine.sum(0) + sums[counts])

    def per_image(self, stage: str) -> pd.DataFrame:
        """Score each image by itself."""
        return self.score.per_image(getattr(self, stage))

    def _sums(self, exits: np.ndarray, among: np.ndarray | None) -> np.ndarray:
        coarse, fine = self.coarse, self.fine
        if among is not None:
            exits = exits[..., among]
            coarse, fine = coarse[among], fine[among]
        # One product for any number of sets of exits.
        return fine.sum(0) + exits.astype(np.float64) @ (coarse - fine)
