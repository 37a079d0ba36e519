"""What a timed training writes, and reads to go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmscope.benchmark.files import read_json
from mmscope.benchmark.gpu.record import set_aside
from mmscope.benchmark.setting import Setting, is_same_setting


@dataclass
class Point:
    """A curve's point after so many steps and passes over the images.

    Mean ``loss`` and ``seconds`` of the chunk; ``accuracy`` of held-out
    images when nobody exits, in percent.
    """

    step: int
    epoch: float
    loss: float | str
    accuracy: float
    seconds: float


@dataclass
class Run:
    """What is known of one model, a config's stem.

    Seconds of a step; steps by 'graph' or 'calls', and why no graph; its
    curve; rows of thresholds by split.
    """

    config: str
    step_s: float = 0.0
    how: str = ''
    why_not_recorded: str = ''
    curve: list[Point] = field(default_factory=list)
    sweeps: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass
class State:
    """Everything that is written.

    ``total`` steps of each model, 0 before the probe; models by name.
    """

    setting: Setting
    batch: int
    minutes: float
    total: int = 0
    spent_s: float = 0.0
    runs: dict[str, Run] = field(default_factory=dict)


def open_state(
    path: Path,
    setting: Setting,
    batch: int,
    minutes: float,
    again: bool = False,
) -> State:
    """Open an interrupted training, or begin a new one.

    It goes on if the file is of the same card, code and batch, unless it is to
    begin again; what was learned otherwise gets another name.
    """
    if path.is_file():
        old = read_json(path, State, 'benchmark.py --train-minutes')
        same = is_same_setting(old.setting, setting) and old.batch == batch
        if same and not again:
            return old
        if old.runs:
            set_aside(path, old.setting)
    return State(setting, batch, minutes)
