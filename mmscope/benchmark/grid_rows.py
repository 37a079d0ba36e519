"""What is measured in a grid, and what costs promise beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mmscope.benchmark.models import DEIT, REDUCED, SCOPE, VIM
from mmscope.benchmark.setting import Setting
from mmscope.evaluation.tables import spread_text

# A saving below this is too small to say which share of it was won.
LEAST_PROMISE = 0.05
LOSS_RATIO = 0.5


@dataclass
class Cell:
    """One place of the grid.

    Args:
        arch (str): Architecture, 'config' for whole models.
        batch (int): Images of a forward.
        resolution (int | str): Image side in pixels, or 'HEIGHTxWIDTH'.
    """

    arch: str
    batch: int
    resolution: int | str

    @property
    def title(self) -> str:
        """What stands above its table."""
        return f'{self.arch}, {self.resolution} px, batch {self.batch}'


@dataclass
class Skipped(Cell):
    """Who was not measured and why; of growth also the place on an axis."""

    subject: str
    reason: str
    axis: str = ''
    x: float | None = None


@dataclass
class GridRow(Cell):
    """One subject in one cell; None is what nobody measured or promised.

    Args:
        subject (str): Name.
        kind (str): 'DeiT', 'ViM', 'reduced ViM', 'MambaScope' or another.
        model (str): What is shared by one model's exit ratios.
        exit_ratio (float | None): Forced, a fraction.
        images_per_s (float | None): Of the median round, with the quartiles
            ``images_per_s_iqr``.
        latency_ms_p50 (float | None): Of a forward, milliseconds; so is
            ``latency_ms_p95``.
        rounds (int | None): Timed, of ``forwards`` in all.
        memory_mib (float | None): Of a forward, beside ``weights_mib``.
        gmacs (float | None): Of an image, in billions.
        load_ms (float | None): Reading an image of a config, and
            ``preprocess_ms`` of its data preprocessor.
        exited (float | None): Fraction of a config's images that exited.
        predicted_images_per_s (float | None): From ViM's time and the MACs.
        saving_promised (float | None): Of ViM's MACs, a fraction; beside
            ``saving_won``, of its time (negative: slower than ViM), and
            ``share_won``, the latter over the former.
        exit_share_won (float | None): The same share against the model
            itself when nobody exits.
        reason (str | None): Why nothing was measured.
    """

    subject: str
    kind: str = ''
    model: str = ''
    exit_ratio: float | None = None
    images_per_s: float | None = None
    images_per_s_iqr: tuple[float, float] | None = None
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None
    rounds: int | None = None
    forwards: int | None = None
    memory_mib: float | None = None
    weights_mib: float | None = None
    gmacs: float | None = None
    load_ms: float | None = None
    preprocess_ms: float | None = None
    exited: float | None = None
    predicted_images_per_s: float | None = None
    saving_promised: float | None = None
    saving_won: float | None = None
    share_won: float | None = None
    exit_share_won: float | None = None
    reason: str | None = None

    @property
    def speed(self) -> str | None:
        """Median and quartiles, such as '20.4 (19.8 to 20.5)'."""
        if self.images_per_s is None or self.images_per_s_iqr is None:
            return None
        return spread_text(self.images_per_s, self.images_per_s_iqr, '.1f')


@dataclass
class SlowerCase(Cell):
    """Where MambaScope takes ``times`` the time of a rival, more than 1.

    ``clear``: the quartiles of the two do not overlap.
    """

    subject: str
    rival: str
    times: float
    clear: bool


@dataclass
class Grid:
    """What was measured, and what a file of it holds.

    ``memory`` says how that was measured, ``neck`` is 'none' or 'fpn'.
    """

    rows: list[GridRow] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    setting: Setting = field(default_factory=dict)
    memory: str = ''
    neck: str = 'none'
    slower_cases: list[SlowerCase] = field(default_factory=list)


def add_predictions(rows: Sequence[GridRow]) -> None:
    """Promise MambaScope and token reductions times from closed-form costs.

    ViM's measured time is the anchor: an image that costs half the MACs is
    promised half of it.

    Args:
        rows (Sequence[GridRow]): Of one cell; what was promised and won is
            filled in. A share stays None where less than 5 % is promised.
    """
    vim = next((row for row in rows if row.kind == VIM and row.gmacs), None)
    nobody = {row.model: row for row in rows if row.exit_ratio == 0}
    for row in rows:
        is_promised = row.exit_ratio is not None or row.kind == REDUCED
        if not (is_promised and row.gmacs):
            continue
        if vim is not None:
            row.predicted_images_per_s = (
                vim.images_per_s * vim.gmacs / row.gmacs
            )
            row.saving_promised, row.saving_won, row.share_won = _saving(
                row, vim
            )
        if row.model in nobody:
            *_, row.exit_share_won = _saving(row, nobody[row.model])


def _saving(
    row: GridRow, anchor: GridRow
) -> tuple[float, float, float | None]:
    promised = 1 - row.gmacs / anchor.gmacs
    won = 1 - anchor.images_per_s / row.images_per_s
    return promised, won, won / promised if promised >= LEAST_PROMISE else None


def slower_cases(rows: Sequence[GridRow]) -> list[SlowerCase]:
    """List where MambaScope at half exits is slower than DeiT or ViM."""
    return [
        SlowerCase(
            *(ours.arch, ours.batch, ours.resolution, ours.subject),
            rival=rival.subject,
            times=rival.images_per_s / ours.images_per_s,
            clear=ours.images_per_s_iqr[1] < rival.images_per_s_iqr[0],
        )
        for ours in rows
        if ours.kind == SCOPE and ours.exit_ratio == LOSS_RATIO
        for rival in rows
        if rival.title == ours.title and rival.kind in (DEIT, VIM)
        if ours.images_per_s < rival.images_per_s
    ]
