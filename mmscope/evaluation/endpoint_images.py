"""The images of a data set, predicted at both exits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mmscope.evaluation.gated_scores import ScoredImages


@dataclass
class BothEnds:
    """Every image of a data set, scored and counted at both exits.

    Neck and heads are counted at each end: the heads of a two-stage detector
    run on as many regions as its maps propose, mask heads on what is found.
    The images of a batch share what was counted for it, so mean costs
    between the two ends are exact where that number is the same for every
    image, or at batch size 1.

    Args:
        names (list[str]): Image names.
        confidence (np.ndarray | None): (n,), None without a gate.
        scored (ScoredImages): Their scores at either exit.
        exit_tokens (np.ndarray): Tokens of an image that exits, (n,).
        full_tokens (np.ndarray): Tokens of an image that goes on, (n,).
        exit_macs (np.ndarray): Backbone MACs of an image that exits, (n,).
        full_macs (np.ndarray): Backbone MACs of one that goes on, (n,).
        exit_shared (np.ndarray): MACs of neck and heads of an image that
            exits, (n,).
        full_shared (np.ndarray): MACs of neck and heads of one that goes on,
            (n,).
        kinds (dict[str, np.ndarray]): Every confidence that the deciding
            head offers, (n,) each. Defaults to {}.
        details (dict[str, np.ndarray]): What the score describes of each
            image, (n,) each. Defaults to {}.
    """

    names: list[str]
    confidence: np.ndarray | None
    scored: ScoredImages
    exit_tokens: np.ndarray
    full_tokens: np.ndarray
    exit_macs: np.ndarray
    full_macs: np.ndarray
    exit_shared: np.ndarray
    full_shared: np.ndarray
    kinds: dict[str, np.ndarray] = field(default_factory=dict)
    details: dict[str, np.ndarray] = field(default_factory=dict)

    def gains(self) -> dict[str, np.ndarray]:
        """Compute each image's fine minus coarse score, by every name.

        Returns:
            dict[str, np.ndarray]: Gains in percent points, (n,), NaN where
            an image has nothing to score.
        """
        coarse = self.scored.per_image('coarse')
        fine = self.scored.per_image('fine')
        return {name: fine[name] - coarse[name] for name in fine}

    def primary_gain(self) -> np.ndarray:
        """Compute what each image gains by the score that ranks images.

        Returns:
            np.ndarray: Percent points, (n,); 0 where an image has nothing to
            score.
        """
        return np.nan_to_num(next(iter(self.gains().values())))

    def nobody(self) -> np.ndarray:
        """Let nobody exit.

        Returns:
            np.ndarray: (n,) False.
        """
        return np.zeros(len(self.names), dtype=bool)

    def costs(self, exits: np.ndarray) -> dict[str, float]:
        """Average what the images cost of which some exit.

        Args:
            exits (np.ndarray): Who exits, (n,) bool.

        Returns:
            dict[str, float]: ``mean_cost`` of the model and
            ``backbone_cost`` of its backbone alone, GMACs an image.
        """
        backbone = choose(exits, self.exit_macs, self.full_macs)
        shared = choose(exits, self.exit_shared, self.full_shared)
        return {
            'mean_cost': (backbone + shared) / 1e9,
            'backbone_cost': backbone / 1e9,
        }

    def tokens(self, exits: np.ndarray) -> float:
        """Average the tokens of images of which some exit."""
        return choose(exits, self.exit_tokens, self.full_tokens)


def choose(
    exits: np.ndarray, if_exits: np.ndarray, if_not: np.ndarray
) -> float:
    """Average over images one number of those that exit, one of the others.

    Args:
        exits (np.ndarray): Who exits, (n,) bool.
        if_exits (np.ndarray): Of an image that exits, (n,).
        if_not (np.ndarray): Of an image that goes on, (n,).

    Returns:
        float: The mean.
    """
    return float(np.where(exits, if_exits, if_not).mean())
