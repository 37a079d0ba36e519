"""What images cost on average, by how many exit and who."""

from __future__ import annotations

import numpy as np
import pandas as pd


def costs_in_order(
    early: np.ndarray, full: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """Average the costs where the first images of an order exit.

    Args:
        early (np.ndarray): (n,), cost of each image if it exits.
        full (np.ndarray): (n,), of each that goes on.
        order (np.ndarray): (n,), indices, who exits first comes first.

    Returns:
        np.ndarray: (n + 1,), the mean where 0, 1, ..., n of them exit.
    """
    saved = np.pad((full - early)[order].cumsum(), (1, 0))
    return (full.sum() - saved) / len(full)


def costs_by_lot(rows: pd.DataFrame) -> pd.Series:
    """Average the costs where images exit by lot.

    Args:
        rows (pd.DataFrame): Of a sweep, from all exit to nobody, with
            ``mean_cost`` and ``exit_ratio``.

    Returns:
        pd.Series: Of each row: on the line between both ends.
    """
    early, full = rows['mean_cost'].iloc[0], rows['mean_cost'].iloc[-1]
    return full - rows['exit_ratio'] * (full - early)
