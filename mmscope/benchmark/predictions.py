"""What costs promise, beside what is measured."""

from __future__ import annotations

from collections.abc import Sequence

from mmscope.benchmark.models import DEIT, REDUCED, SCOPE, VIM

# A saving below this is too small to say which share of it was won.
LEAST_PROMISE = 0.05
LOSS_RATIO = 0.5


def add_predictions(rows: Sequence[dict]) -> list[dict]:
    """Predict the times of one cell from closed-form costs.

    ViM's measured time is the anchor: an image that costs half the MACs is
    promised half of it.

    Args:
        rows (Sequence[dict]): Rows of one cell, with ``subject``,
            ``exit_ratio``, ``images_per_s`` and ``gmacs``.

    Returns:
        list[dict]: The rows; those of MambaScope and of token reductions also
        have ``predicted_images_per_s``; ``saving_promised`` and
        ``saving_won``, fractions of ViM's time (negative: slower than ViM);
        ``share_won``, the latter over the former; and MambaScope's
        ``exit_share_won``, the same against itself when nobody exits. A
        share is None where less than 5 % is promised.
    """
    vim = next((row for row in rows if row['kind'] == VIM), None)
    nobody = {row['model']: row for row in rows if row['exit_ratio'] == 0}
    return [
        row
        if row['exit_ratio'] is None and row['kind'] != REDUCED
        else {**row, **_promised(row, vim, nobody.get(row['model']))}
        for row in rows
    ]


def _promised(row: dict, vim: dict | None, nobody: dict | None) -> dict:
    found = {}
    if row['gmacs'] and vim and vim['gmacs']:
        speed = vim['images_per_s'] * vim['gmacs'] / row['gmacs']
        found = {'predicted_images_per_s': speed, **_saving(row, vim)}
    if row['gmacs'] and nobody:
        found['exit_share_won'] = _saving(row, nobody)['share_won']
    return found


def _saving(row: dict, anchor: dict) -> dict:
    promised = 1 - row['gmacs'] / anchor['gmacs']
    won = 1 - anchor['images_per_s'] / row['images_per_s']
    share = won / promised if promised >= LEAST_PROMISE else None
    return {
        'saving_promised': promised,
        'saving_won': won,
        'share_won': share,
    }


def slower_cases(
    rows: Sequence[dict], exit_ratio: float = LOSS_RATIO
) -> list[dict]:
    """List where MambaScope is slower than DeiT or ViM.

    Args:
        rows (Sequence[dict]): Rows of all cells.
        exit_ratio (float): Of the MambaScope that is compared. Defaults to
            0.5.

    Returns:
        list[dict]: Cell, ``subject``, ``rival``, ``times`` (its time over
        the rival's, above 1) and ``clear``: whether the quartiles of the two
        do not overlap.
    """
    cells: dict[tuple, list[dict]] = {}
    for row in rows:
        key = (row['arch'], row['batch'], row['resolution'])
        cells.setdefault(key, []).append(row)
    return [
        _loss(ours, rival)
        for cell in cells.values()
        for ours in cell
        if ours['kind'] == SCOPE and ours['exit_ratio'] == exit_ratio
        for rival in cell
        if rival['kind'] in (DEIT, VIM) and _is_slower(ours, rival)
    ]


def _is_slower(ours: dict, rival: dict) -> bool:
    return ours['images_per_s'] < rival['images_per_s']


def _loss(ours: dict, rival: dict) -> dict:
    best, worst = ours['images_per_s_iqr'][1], rival['images_per_s_iqr'][0]
    return {
        'arch': ours['arch'],
        'batch': ours['batch'],
        'resolution': ours['resolution'],
        'subject': ours['subject'],
        'rival': rival['subject'],
        'times': rival['images_per_s'] / ours['images_per_s'],
        'clear': best < worst,
    }


def shares_won(rows: Sequence[dict]) -> dict[int, float]:
    """Average the share of the promised exit saving, per batch size.

    Args:
        rows (Sequence[dict]): Rows of all cells.

    Returns:
        dict[int, float]: Mean ``exit_share_won`` of MambaScope's rows that
        promise one, by batch.
    """
    found: dict[int, list[float]] = {}
    for row in rows:
        if row.get('exit_share_won') is not None:
            found.setdefault(row['batch'], []).append(row['exit_share_won'])
    return {batch: sum(x) / len(x) for batch, x in sorted(found.items())}
