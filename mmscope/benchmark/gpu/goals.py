"""The stated goals, and whether the measurements reach them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmscope.benchmark.gpu import parts
from mmscope.benchmark.gpu.parity import TensorRow
from mmscope.benchmark.gpu.record import DONE, FAILED, Record
from mmscope.benchmark.gpu.rival import RIVAL
from mmscope.benchmark.gpu.sanitizer import Check
from mmscope.benchmark.grid_rows import GridRow
from mmscope.benchmark.models import DEIT, VIM
from mmscope.benchmark.subjects import scope_name

REACHED, MISSED, OPEN = 'reached', 'missed', 'not measured'
HALF = scope_name(0.5)
# What a goal wants, from the issue that states it.
OVER_RIVAL, OVER_VIM, OVER_DEIT, SHARE = 1.5, 1.3, 1.0, 0.8
WANTED: dict[str, float] = {RIVAL: OVER_RIVAL, VIM: OVER_VIM}
BATCH, SIDE, LARGE_SIDE = 64, 224, 1024


@dataclass(frozen=True)
class Goal:
    """One stated goal: at least ``wanted``, beside what was measured or not.

    ``note`` says what is missing or failed.
    """

    name: str
    wanted: float
    measured: float | None
    note: str = '-'

    @property
    def verdict(self) -> str:
        """'reached', 'missed' or 'not measured'."""
        if self.measured is None:
            return OPEN
        return REACHED if self.measured >= self.wanted else MISSED


def goals(record: Record) -> list[Goal]:
    """Hold the goals against a record of ``--gpu-first``, measured or not."""
    models = _speeds(record.rows(parts.MODELS, GridRow), SIDE)
    large = _speeds(record.rows(parts.MODELS, GridRow), LARGE_SIDE)
    training = _speeds(record.rows(parts.TRAINING, GridRow), SIDE)
    tensors = {
        parts.PARITY: 'share of tensors that equal the reference',
        parts.HUGE: 'the same beyond 2 ** 31 elements',
    }
    found = [
        _all_ok(record, part, title, TensorRow)
        for part, title in tensors.items()
    ]
    memory = 'share of memory checks without an error'
    found.append(_all_ok(record, parts.SANITIZER, memory, Check))
    small = 'ViM-S, batch 64'
    found += [
        _ratio(f'{small}: forward over mamba-ssm', models, VIM, RIVAL),
        _ratio(f'{small}: training over mamba-ssm', training, VIM, RIVAL),
        _ratio('MambaScope-S at 50 % exits over ViM-S', models, HALF, VIM),
    ]
    for ours in (VIM, HALF):
        for rival in (DEIT, f'{DEIT}, compiled'):
            name = f'1024 px, batch 64: {ours} over {rival}'
            found.append(_ratio(name, large, ours, rival))
    return [*found, *_shares(record.rows(parts.GATED, GridRow))]


def _speeds(rows: Iterable[GridRow], side: int) -> dict[str, float]:
    """Images a second at the batch of the goals, by subject.

    Where one was timed in several cells, the first one counts: there everybody
    took part.
    """
    found: dict[str, float] = {}
    for row in rows:
        place = (row.arch, row.resolution, row.batch)
        if row.images_per_s and place == ('small', side, BATCH):
            found.setdefault(row.subject, row.images_per_s)
    return found


def _ratio(name: str, speeds: dict[str, float], ours: str, rival: str) -> Goal:
    wanted = WANTED.get(rival, OVER_DEIT)
    missing = [one for one in (ours, rival) if one not in speeds]
    if missing:
        return Goal(name, wanted, None, f'without {" and ".join(missing)}')
    return Goal(name, wanted, speeds[ours] / speeds[rival])


def _all_ok(
    record: Record, part: str, title: str, kind: type[TensorRow | Check]
) -> Goal:
    """Count what is right; a step that failed counts as wrong.

    The note names the others that did not end well, too: they show nothing.
    """
    rows, outcomes = record.rows(part, kind), record.of(part)
    wrong = [row.name for row in rows if not row.ok]
    ended = [x for x in outcomes if x.state in (DONE, FAILED)]
    named = sorted(
        (x for x in outcomes if x.state != DONE),
        key=lambda x: x.state != FAILED,
    )
    bad = wrong + [f'{x.step} ({x.state})' for x in named]
    more = f' and {len(bad) - 3} more' if len(bad) > 3 and rows else ''
    note = '; '.join(bad[:3]) + more or '-'
    if not rows:
        return Goal(title, 1.0, None, note)
    count = len(wrong) + sum(x.state == FAILED for x in ended)
    return Goal(title, 1.0, 1 - count / (len(rows) + len(ended)), note)


def _shares(rows: Sequence[GridRow]) -> list[Goal]:
    title = 'share of the saving won at 50 % exits'
    found = [
        Goal(f'{title}, batch {row.batch}', SHARE, row.exit_share_won)
        for row in rows
        if row.subject == HALF and row.exit_share_won is not None
    ]
    return found or [Goal(title, SHARE, None)]
