"""The stated goals, and whether the measurements reach them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mmscope.benchmark.gpu.models import RIVAL
from mmscope.benchmark.gpu.parts import (
    GATED,
    HUGE,
    MODELS,
    PARITY,
    SANITIZER,
    TRAINING,
)
from mmscope.benchmark.gpu.record import DONE, Record
from mmscope.benchmark.models import DEIT, SCOPE, VIM

REACHED, MISSED, OPEN = 'reached', 'missed', 'not measured'
HALF = f'{SCOPE} 50 %'
# What a goal wants, from the issue that states it.
OVER_RIVAL, OVER_VIM, OVER_DEIT, SHARE = 1.5, 1.3, 1.0, 0.8
BATCH, SIDE, LARGE_SIDE = 64, 224, 1024


@dataclass(frozen=True)
class Goal:
    """One stated goal beside what was measured.

    Args:
        name (str): What was promised.
        wanted (float): At least so much.
        measured (float | None): None where it was not measured.
        note (str): What is missing or failed. Defaults to ''.
    """

    name: str
    wanted: float
    measured: float | None
    note: str = ''

    @property
    def verdict(self) -> str:
        """'reached', 'missed' or 'not measured'."""
        if self.measured is None:
            return OPEN
        return REACHED if self.measured >= self.wanted else MISSED


def goals(record: Record) -> list[Goal]:
    """Hold the goals against a record.

    Args:
        record (Record): Results of ``--gpu-first``.

    Returns:
        list[Goal]: All of them, measured or not.
    """
    models = _speeds(record.rows(MODELS), SIDE)
    large = _speeds(record.rows(MODELS), LARGE_SIDE)
    training = _speeds(record.rows(TRAINING), SIDE)
    small = 'ViM-S, batch 64'
    found = [
        *_parity(record),
        _memory(record),
        _ratio(f'{small}: forward over mamba-ssm', models, VIM, RIVAL),
        _ratio(f'{small}: training over mamba-ssm', training, VIM, RIVAL),
        _ratio('MambaScope-S at 50 % exits over ViM-S', models, HALF, VIM),
    ]
    for ours in (VIM, HALF):
        for rival in (DEIT, f'{DEIT}, compiled'):
            name = f'1024 px, batch 64: {ours} over {rival}'
            found.append(_ratio(name, large, ours, rival))
    return [*found, *_shares(record.rows(GATED))]


def _speeds(rows: Iterable[dict], side: int) -> dict[str, float]:
    """Images a second at the batch of the goals, by subject.

    Where one was timed in several cells, the first one counts: there everybody
    took part.
    """
    found: dict[str, float] = {}
    for row in rows:
        cell = (row['arch'], row['resolution'], row['batch'])
        if row.get('images_per_s') and cell == ('small', side, BATCH):
            found.setdefault(row['subject'], row['images_per_s'])
    return found


WANTED: dict[str, float] = {RIVAL: OVER_RIVAL, VIM: OVER_VIM}


def _ratio(name: str, speeds: dict[str, float], ours: str, rival: str) -> Goal:
    wanted = WANTED.get(rival, OVER_DEIT)
    missing = [one for one in (ours, rival) if one not in speeds]
    if missing:
        return Goal(name, wanted, None, f'without {" and ".join(missing)}')
    return Goal(name, wanted, speeds[ours] / speeds[rival])


def _parity(record: Record) -> list[Goal]:
    titles = {
        PARITY: 'share of tensors that equal the reference',
        HUGE: 'the same beyond 2 ** 31 elements',
    }
    return [
        _all_ok(
            record, part, title, lambda row: f'{row["case"]}: {row["tensor"]}'
        )
        for part, title in titles.items()
    ]


def _memory(record: Record) -> Goal:
    title = 'share of memory checks without an error'
    return _all_ok(record, SANITIZER, title, lambda row: row['tool'])


def _all_ok(
    record: Record, part: str, title: str, name: Callable[[dict], str]
) -> Goal:
    """Count what is right; a step that did not end well counts as wrong."""
    rows, outcomes = record.rows(part), record.of(part)
    bad = [name(row) for row in rows if not row['ok']]
    bad += [
        f'{outcome.step} ({outcome.state})'
        for outcome in outcomes
        if outcome.state != DONE
    ]
    if not rows:
        return Goal(title, 1.0, None, '; '.join(bad[:3]))
    share = 1 - len(bad) / (len(rows) + len(outcomes))
    more = f' and {len(bad) - 3} more' if len(bad) > 3 else ''
    return Goal(title, 1.0, share, '; '.join(bad[:3]) + more)


def _shares(rows: Iterable[dict]) -> list[Goal]:
    found = [
        Goal(
            f'share of the saving won at 50 % exits, batch {row["batch"]}',
            SHARE,
            row['exit_share_won'],
        )
        for row in rows
        if row['subject'] == HALF and row.get('exit_share_won') is not None
    ]
    title = 'share of the saving won at 50 % exits'
    return found or [Goal(title, SHARE, None)]
