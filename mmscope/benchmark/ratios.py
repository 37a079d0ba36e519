"""A few ratios that are comparable between machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from mmscope.benchmark.files import read_json
from mmscope.benchmark.grid import Limits
from mmscope.benchmark.grid_report import paragraphs
from mmscope.benchmark.growth import Growth
from mmscope.benchmark.models import DEIT, VIM
from mmscope.benchmark.ops import benchmark_ops
from mmscope.benchmark.setting import Setting, setting_line
from mmscope.benchmark.subjects import PRODUCTS, Subjects, scope_name
from mmscope.evaluation.interleaved_timing import time_interleaved
from mmscope.evaluation.tables import Column, format_table, spread_text

# A number, or quartiles.
Ratio = float | tuple[float, float, float]
Build = Callable[[str, int], Subjects]
HALF = scope_name(0.5)
OPS_SHAPE = (8, 197, 768, 16)
# 196, 1024 and 4096 patches.
GROWTH_SIDES = (224, 512, 1024)
# Ratio: name in the file, whose time, over whose.
PAIRS = {
    'ViM / its matrix products': (VIM, PRODUCTS),
    'ViM / DeiT': (VIM, DEIT),
    'MambaScope 50 % exits / ViM': (HALF, VIM),
    'MambaScope 50 % exits / DeiT': (HALF, DEIT),
}
# A ratio that moved by more is worth a look.
NOTABLE = 0.1
COLUMNS = (Column('ratio', 'ratio'), Column('time', 'time'))


@dataclass
class RatiosFile:
    """What ``make bench`` writes: each ratio by its name."""

    setting: Setting
    ratios: dict[str, Ratio]


def op_ratios(repeats: int) -> dict[str, Ratio]:
    """Compare the compiled operators with what PyTorch alone offers."""
    rows = benchmark_ops(repeats, (OPS_SHAPE,))
    return {
        f'{row.op} {row.run}: {row.first} / {row.rival}': 1 / row.ratio
        for row in rows
        if row.rival != row.first
    }


def model_ratios(
    arch: str,
    batch: int,
    build: Build,
    repeats: int,
    device: torch.device,
) -> dict[str, Ratio]:
    """Compare models at 224 pixels, quartiles of ratios round by round."""
    entries = {c.name: c.entry(batch) for c in build(arch, 224).subjects}
    result = time_interleaved(entries, repeats, device)
    return {
        f'{arch}, batch {batch}: {name}': result.ratio(*pair)
        for name, pair in PAIRS.items()
        if set(pair) <= set(result.timings)
    }


def growth_exponents(
    arch: str,
    build: Build,
    repeats: int,
    device: torch.device,
    sides: Sequence[int] = GROWTH_SIDES,
) -> dict[str, Ratio]:
    """Fit how ViM's and DeiT's time of one image grows with its tokens."""
    growth = Growth(
        arch, partial(build, arch), Limits(device, repeats, float('inf'))
    )
    growth.tokens(sides)
    return {
        f'{arch}: exponent of the time in the tokens, {x.subject}': (
            x.time_exponent
        )
        for x in growth.result().curves
        if x.subject in (VIM, DEIT) and x.time_exponent is not None
    }


def changes(file: RatiosFile, path: str | Path) -> str:
    """Compare ratios with those that lie in a file: one line a ratio."""
    before: dict[str, Ratio] = {}
    if Path(path).is_file():
        before = read_json(path, RatiosFile, 'benchmark.py --ratios').ratios
    return '\n'.join(
        f'{name}: {_line(before.get(name), value)}'
        for name, value in file.ratios.items()
    )


def rounded(ratio: Ratio) -> Ratio:
    """Round a ratio to four digits."""
    if isinstance(ratio, tuple):
        return tuple(round(x, 4) for x in ratio)
    return round(ratio, 4)


def _median(value: Ratio) -> float:
    return value[1] if isinstance(value, tuple) else value


def _line(before: Ratio | None, now: Ratio) -> str:
    text = quartiles(now, 3)
    if before is None:
        return text
    change = _median(now) / _median(before) - 1
    worse = f' WORSE by {100 * change:.0f} %' if change > NOTABLE else ''
    return f'{text}, before {_median(before):.3f}{worse}'


def quartiles(value: Ratio, digits: int = 2) -> str:
    """Format '1.50 (1.40 to 1.60)', or a number with three digits."""
    if not isinstance(value, tuple):
        return f'{value:.3f}'
    low, middle, high = value
    return spread_text(middle, (low, high), f'.{digits}f')


def ratios_section(file: RatiosFile) -> str:
    """Format what ``make bench`` writes."""
    rows = [
        {'ratio': name, 'time': quartiles(value)}
        for name, value in file.ratios.items()
    ]
    return paragraphs(format_table(rows, COLUMNS), setting_line(file.setting))
