"""What a timed training writes, and reads to go on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmscope.benchmark.gpu.record import (
    is_same_setting,
    plain,
    write_atomically,
)
from mmscope.errors import UserError


@dataclass
class Point:
    """One point of a model's curve.

    Args:
        step (int): Steps that were done.
        epoch (float): The same in passes over the training images.
        loss (float): Mean over the chunk.
        accuracy (float): Of held-out images when nobody exits, percent.
        seconds (float): Of the chunk.
    """

    step: int
    epoch: float
    loss: float
    accuracy: float
    seconds: float


@dataclass
class Run:
    """What is known of one model.

    Args:
        config (str): Its file's stem.
        step_s (float): Seconds of a step in the probe. Defaults to 0.
        how (str): 'graph' or 'calls'. Defaults to ''.
        why_not_recorded (str): Why no graph. Defaults to ''.
        curve (list[Point]): Defaults to none.
        sweeps (dict[str, list[dict]]): Rows of thresholds by split. Defaults
            to none.
    """

    config: str
    step_s: float = 0.0
    how: str = ''
    why_not_recorded: str = ''
    curve: list[Point] = field(default_factory=list)
    sweeps: dict[str, list[dict]] = field(default_factory=dict)


@dataclass
class State:
    """Everything that is written.

    Args:
        setting (dict): Machine, versions, commit.
        batch (int): Images of a step.
        minutes (float): Asked for.
        total (int): Steps of the whole training of each model; 0 before the
            probe. Defaults to 0.
        spent_s (float): Of all calls. Defaults to 0.
        runs (dict[str, Run]): By the config's stem. Defaults to none.
    """

    setting: dict
    batch: int
    minutes: float
    total: int = 0
    spent_s: float = 0.0
    runs: dict[str, Run] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write everything, atomically."""
        text = json.dumps(plain(asdict(self)), indent=1, allow_nan=False)
        write_atomically(path, text + '\n')

    @classmethod
    def read(cls, path: Path) -> State:
        """Read what :meth:`write` wrote.

        Args:
            path (Path): JSON file.

        Returns:
            State: What it holds.

        Raises:
            UserError: If it holds something else.
        """
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
            runs = found.pop('runs')
            for run in runs.values():
                run['curve'] = [Point(**point) for point in run['curve']]
            runs = {name: Run(**run) for name, run in runs.items()}
            return cls(**found, runs=runs)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f'{path} is not the JSON of tools/benchmark.py '
                f'--train-minutes ({type(error).__name__}: {error}): name '
                'another file, or remove this one'
            ) from error


def open_state(path: Path, setting: dict, batch: int, minutes: float) -> State:
    """Open an interrupted training, or begin a new one.

    Args:
        path (Path): JSON file.
        setting (dict): Of this machine and commit.
        batch (int): Images of a step.
        minutes (float): Asked for.

    Returns:
        State: New, unless the file is of the same card, commit and batch.
    """
    if path.is_file():
        old = State.read(path)
        if is_same_setting(old.setting, setting) and old.batch == batch:
            return old
    return State(setting, batch, minutes)
