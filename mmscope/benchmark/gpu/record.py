"""What was found so far, in a file that is whole at every moment."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mmscope.benchmark.files import Setting, plain, read_json, write_json

T = TypeVar('T')
DONE, SKIPPED, FAILED = 'done', 'skipped', 'failed'
OUT_OF_TIME = 'out of time'


class Skip(Exception):
    """Raised by a step that cannot run here; its text is the reason."""


@dataclass
class Outcome:
    """How one step of a part ended: done, skipped, failed, out of time.

    ``seconds`` are wall-clock time, ``rows`` what was measured, ``reason``
    why it was skipped or failed, with the traceback.
    """

    part: str
    step: str
    state: str
    seconds: float
    rows: list[Any] = field(default_factory=list)
    reason: str = ''


def set_aside(path: Path, setting: Setting) -> Path | None:
    """Give a file of other results another name, by the code they are of.

    Returns:
        Path | None: The new name beside the old one; None without a file.
    """
    if not path.is_file():
        return None
    stem, number = f'{path.stem}-{setting.get("source", "old")}', 1
    new = path.with_name(f'{stem}{path.suffix}')
    while new.exists():
        number += 1
        new = path.with_name(f'{stem}-{number}{path.suffix}')
    return path.rename(new)


@dataclass
class Running:
    """The step that a worker is busy with.

    ``since`` is in seconds since the epoch; after ``limit_s`` it is given up.
    """

    part: str
    step: str
    since: float
    limit_s: float


@dataclass
class Record:
    """Everything that was found, and what is being done.

    Args:
        path (Path): JSON file.
        setting (dict): Machine, versions, commit. Defaults to {}.
        outcomes (list[Outcome]): One a step. Defaults to none.
        running (Running | None): What a worker is busy with. Defaults to
            None.
        spent_s (float): Wall-clock seconds of all calls so far. Defaults to
            0.
        earlier (dict): Seconds of each part's steps in earlier calls, which
            do not count for this one's budgets. Defaults to {}.
        lost (list[str]): Steps of this call in which a CUDA graph could not
            be recorded. Defaults to none.
    """

    path: Path
    setting: Setting = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    running: Running | None = None
    spent_s: float = 0.0
    earlier: dict[str, float] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: str | Path) -> Record:
        """Read a file that :meth:`write` wrote; an empty one if there is none.

        Raises:
            UserError: If the file holds something else.
        """
        path = Path(path)
        if not path.is_file():
            return cls(path)
        return read_json(path, cls, 'benchmark.py --gpu-first', path=path)

    def write(self) -> None:
        """Write everything, atomically."""
        content = {k: v for k, v in vars(self).items() if k != 'path'}
        write_json(self.path, content)

    def begin(self, part: str, step: str, limit_s: float) -> None:
        """Note what is being done, so that a death can be told from an end."""
        self.running = Running(part, step, time.time(), limit_s)
        self.write()

    def put(self, outcome: Outcome) -> None:
        """Enter an outcome in place of an older one of the same step."""
        key = (outcome.part, outcome.step)
        self.outcomes = [x for x in self.outcomes if (x.part, x.step) != key]
        self.outcomes.append(outcome)
        self.running = None
        self.write()

    def forget(self) -> None:
        """Let the step that is being done be done again."""
        self.running = None
        self.write()

    def find(self, part: str, step: str) -> Outcome | None:
        """Return how a step ended; None if it did not run."""
        return next((x for x in self.of(part) if x.step == step), None)

    def of(self, part: str) -> list[Outcome]:
        """Return the outcomes of a part."""
        return [outcome for outcome in self.outcomes if outcome.part == part]

    def rows(self, part: str, kind: type[T]) -> list[T]:
        """Return what the steps of a part measured, each a ``kind``."""
        rows = [row for outcome in self.of(part) for row in outcome.rows]
        return msgspec.convert(plain(rows), list[kind])

    def spent(self, part: str) -> float:
        """Add up the seconds of a part's steps in this call."""
        total = sum(outcome.seconds for outcome in self.of(part))
        return total - self.earlier.get(part, 0.0)

    def keep(self, states: Collection[str]) -> None:
        """Begin another call: forget outcomes that are in no such state."""
        self.outcomes = [x for x in self.outcomes if x.state in states]
        self.running, self.earlier, self.lost = None, {}, []
        for outcome in self.outcomes:
            before = self.earlier.get(outcome.part, 0.0)
            self.earlier[outcome.part] = before + outcome.seconds
