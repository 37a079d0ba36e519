"""What was found so far, in a file that is whole at every moment."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

DONE, SKIPPED, FAILED = 'done', 'skipped', 'failed'
OUT_OF_TIME = 'out of time'
# Two results belong together if these entries of their settings are equal.
SAME = ('device', 'source', 'torch', 'dry_run')


class Skip(Exception):
    """Raised by a step that cannot run here; its text is the reason."""


class RecordError(ValueError):
    """A file is not what :class:`Record` writes."""


@dataclass
class Outcome:
    """How one step ended.

    Args:
        part (str): Part of the step.
        step (str): Its name, unique in the part.
        state (str): 'done', 'skipped', 'failed' or 'out of time'.
        seconds (float): Wall-clock time that it took.
        rows (list[dict]): What was measured. Defaults to none.
        reason (str): Why it was skipped or failed, with the traceback.
            Defaults to ''.
    """

    part: str
    step: str
    state: str
    seconds: float
    rows: list[dict] = field(default_factory=list)
    reason: str = ''


@dataclass
class Running:
    """The step that a worker is busy with.

    Args:
        part (str): Part of the step.
        step (str): Its name.
        since (float): When it began, seconds since the epoch.
        limit_s (float): Seconds after which it is given up.
    """

    part: str
    step: str
    since: float
    limit_s: float


def write_atomically(path: str | Path, text: str) -> None:
    """Write a text file that others see either as it was or complete.

    Args:
        path (str | Path): File; its folder is made if it is not there.
        text (str): Content.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    part.write_text(text, encoding='utf-8')
    os.replace(part, path)


def plain(value: object) -> object:
    """Turn numbers that JSON lacks into their names, also inside."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


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
    """

    path: Path
    setting: dict = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    running: Running | None = None
    spent_s: float = 0.0
    earlier: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> Record:
        """Read a file that :meth:`write` wrote; an empty one if there is none.

        Args:
            path (str | Path): JSON file.

        Returns:
            Record: What it holds.

        Raises:
            RecordError: If the file holds something else.
        """
        path = Path(path)
        if not path.is_file():
            return cls(path)
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
            running = found['running']
            return cls(
                path,
                found['setting'],
                [Outcome(**outcome) for outcome in found['outcomes']],
                running and Running(**running),
                found['spent_s'],
                found['earlier'],
            )
        except (ValueError, TypeError, KeyError) as error:
            raise RecordError(
                f'{path} is not the JSON of tools/benchmark.py --gpu-first '
                f'({type(error).__name__}: {error}): name another file, or '
                'remove this one'
            ) from error

    def write(self) -> None:
        """Write everything, atomically."""
        content = {
            'setting': self.setting,
            'spent_s': self.spent_s,
            'earlier': self.earlier,
            'running': self.running and asdict(self.running),
            'outcomes': [asdict(outcome) for outcome in self.outcomes],
        }
        text = json.dumps(plain(content), indent=1, allow_nan=False)
        write_atomically(self.path, text + '\n')

    def begin(self, part: str, step: str, limit_s: float) -> None:
        """Note what is being done, so that a death can be told from an end."""
        self.running = Running(part, step, time.time(), limit_s)
        self.write()

    def put(self, outcome: Outcome) -> None:
        """Enter an outcome in place of an older one of the same step."""
        key = (outcome.part, outcome.step)
        self.outcomes = [
            old for old in self.outcomes if (old.part, old.step) != key
        ]
        self.outcomes.append(outcome)
        self.running = None
        self.write()

    def find(self, part: str, step: str) -> Outcome | None:
        """Return how a step ended; None if it did not run."""
        for outcome in self.outcomes:
            if (outcome.part, outcome.step) == (part, step):
                return outcome
        return None

    def of(self, part: str) -> list[Outcome]:
        """Return the outcomes of a part."""
        return [outcome for outcome in self.outcomes if outcome.part == part]

    def rows(self, part: str) -> list[dict]:
        """Return what the steps of a part measured."""
        return [row for outcome in self.of(part) for row in outcome.rows]

    def spent(self, part: str) -> float:
        """Add up the seconds of a part's steps in this call."""
        total = sum(outcome.seconds for outcome in self.of(part))
        return total - self.earlier.get(part, 0.0)

    def keep(self, states: Iterable[str]) -> None:
        """Begin another call: forget outcomes that are in no such state.

        Args:
            states (Iterable[str]): Of the outcomes that stay.
        """
        states = tuple(states)
        self.outcomes = [x for x in self.outcomes if x.state in states]
        self.running, self.earlier = None, {}
        for outcome in self.outcomes:
            before = self.earlier.get(outcome.part, 0.0)
            self.earlier[outcome.part] = before + outcome.seconds


def is_same_setting(old: dict, new: dict) -> bool:
    """Tell whether results of two settings may stand in one file.

    Args:
        old (dict): Setting of the results that are there.
        new (dict): Setting of this machine and code.

    Returns:
        bool: Whether card, code, torch and kind of run are equal.
    """
    return all(old.get(key) == new.get(key) for key in SAME)
