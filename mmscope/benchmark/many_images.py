"""The parts of the measurement of many images, and their tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mmscope.benchmark.grid_report import paragraphs
from mmscope.benchmark.load_test import Load, load_section
from mmscope.benchmark.long_runs import (
    Kills,
    MemoryRun,
    kills_section,
    memory_section,
)
from mmscope.benchmark.setting import Setting, setting_line
from mmscope.benchmark.streams import HOSTS, StreamRow, streams_section

# What is measured, and how it is told.
PARTS: dict[str, tuple[Any, Callable[[Any], str]]] = {
    **dict.fromkeys(HOSTS, (list[StreamRow], streams_section)),
    'memory': (MemoryRun, memory_section),
    'kills': (Kills, kills_section),
    'load': (Load, load_section),
}


@dataclass
class Part:
    """One part in the file: its result is what ``PARTS`` says."""

    result: Any
    setting: Setting = field(default_factory=dict)


def part_section(name: str) -> Callable[[dict[str, Part]], str]:
    """Make the writer of one part's table, from all parts of the file."""

    def write(file: dict[str, Part]) -> str:
        if name not in file:
            return 'Not measured yet.'
        kind, describe = PARTS[name]
        result = msgspec.convert(file[name].result, kind)
        return paragraphs(describe(result), setting_line(file[name].setting))

    return write
