"""What a row and a table of a paper hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One printed row.

    Args:
        label (str): Model or setting, as printed.
        score (float | None): Top-1 in percent, mIoU or box AP. Defaults to
            None.
        gflops (float | None): Printed cost. Defaults to None.
        params (float | None): Printed parameters in millions. Defaults to
            None.
        key (str | None): Name of our run: the stem of its config, or the
            place in the paper where no config is. None for a method that is
            not ours. Defaults to None.
        eta (float | None): Exit threshold η. Defaults to None.
        alpha (float | None): Refine ratio α. Defaults to None.
        log_fps (float | None): log10 of images a second. Defaults to None.
        mask_score (float | None): Mask AP. Defaults to None.
    """

    label: str
    score: float | None = None
    gflops: float | None = None
    params: float | None = None
    key: str | None = None
    eta: float | None = None
    alpha: float | None = None
    log_fps: float | None = None
    mask_score: float | None = None


@dataclass(frozen=True)
class PaperTable:
    """One table or figure.

    Args:
        source (str): Where it stands, such as 'Table 1'.
        title (str): What it shows.
        rows (tuple[PaperRow, ...]): Its rows; a setting of ours that it does
            not have says so and comes last.
        notes (tuple[str, ...]): Where the paper is unclear or disagrees with
            itself. Defaults to none.
        configs (str): Folder of our configs for it. Defaults to
            'miniimagenet'.
    """

    source: str
    title: str
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...] = ()
    configs: str = 'miniimagenet'
