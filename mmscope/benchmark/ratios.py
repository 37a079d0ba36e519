"""A few ratios that are comparable between machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mmscope.benchmark.growth import fit_exponent
from mmscope.benchmark.models import DEIT, VIM
from mmscope.benchmark.ops import benchmark_ops
from mmscope.benchmark.subjects import PRODUCTS, Subjects, scope_name
from mmscope.evaluation.interleaved_timing import (
    Entry,
    InterleavedTimings,
    time_interleaved,
)

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


def op_ratios(repeats: int) -> dict[str, float]:
    """Compare the compiled operators with what PyTorch offers.

    Args:
        repeats (int): Timed rounds.

    Returns:
        dict[str, float]: Time of ours over that of each rival.
    """
    return {
        f'{row["op"]} {row["run"]}: {row["first"]} / {rival}': 1 / ratio
        for row in benchmark_ops(repeats, (OPS_SHAPE,))
        for rival, ratio in row['ratios'].items()
    }


def model_ratios(
    arch: str,
    batch: int,
    build: Callable[[str, int], Subjects],
    repeats: int,
    device: torch.device,
) -> dict[str, list[float]]:
    """Compare whole models at 224 pixels, ratios taken round by round.

    Args:
        arch (str): Architecture.
        batch (int): Images of a forward.
        build (Callable): Architecture and side to subjects.
        repeats (int): Timed rounds.
        device (torch.device): Where they run.

    Returns:
        dict[str, list[float]]: Quartiles of each pair's ratio of times.
    """
    result = run_field(build(arch, 224), batch, repeats, device)
    return {
        f'{arch}, batch {batch}: {name}': result.ratio(*pair)
        for name, pair in PAIRS.items()
        if set(pair) <= set(result.timings)
    }


def run_field(
    subjects: Subjects, batch: int, repeats: int, device: torch.device
) -> InterleavedTimings:
    """InterleavedTimings everybody of a line-up, without a budget."""
    entries = {
        c.name: Entry(c.make(batch), c.period(batch))
        for c in subjects.subjects
    }
    return time_interleaved(entries, repeats, device)


def growth_exponents(
    arch: str,
    build: Callable[[str, int], Subjects],
    repeats: int,
    device: torch.device,
    sides: Sequence[int] = GROWTH_SIDES,
) -> dict[str, float]:
    """Fit how the time of one image grows with its tokens.

    Args:
        arch (str): Architecture.
        build (Callable): Architecture and side to subjects.
        repeats (int): Timed rounds of each size.
        device (torch.device): Where they run.
        sides (Sequence[int]): Image sides. Defaults to 224, 512, 1024.

    Returns:
        dict[str, float]: Exponent of ViM and of DeiT.
    """
    tokens = [(side // 16) ** 2 for side in sides]
    times: dict[str, list[float]] = {}
    for side in sides:
        result = run_field(build(arch, side), 1, repeats, device)
        for name in (VIM, DEIT):
            if name in result.timings:
                median = result.timings[name].median
                times.setdefault(name, []).append(median)
    return {
        f'{arch}: exponent of the time in the tokens, {name}': fit_exponent(
            tokens, seconds
        )
        for name, seconds in times.items()
    }


def write_ratios(setting: dict, ratios: dict, path: str | Path) -> str:
    """Write the ratios, and compare them with those of the last time.

    Args:
        setting (dict): Machine, versions, commit.
        ratios (dict): Number, or quartiles, by name.
        path (str | Path): JSON file; its folder is made.

    Returns:
        str: One line a ratio: the old one and the new one.
    """
    path = Path(path)
    before = {}
    if path.is_file():
        before = json.loads(path.read_text(encoding='utf-8'))['ratios']
    rounded = {name: _round(value) for name, value in ratios.items()}
    text = json.dumps({'setting': setting, 'ratios': rounded}, indent=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + '\n', encoding='utf-8')
    return '\n'.join(
        f'{name}: {_line(before.get(name), value)}'
        for name, value in rounded.items()
    )


def _round(value: float | list[float]) -> float | list[float]:
    if isinstance(value, list):
        return [_round(entry) for entry in value]
    return round(value, 4)


def _median(value: float | list[float]) -> float:
    return value[1] if isinstance(value, list) else value


def _line(before: float | list[float] | None, now: float | list[float]) -> str:
    text = f'{_median(now):.3f}'
    if isinstance(now, list):
        text += f' ({now[0]:.3f} to {now[2]:.3f})'
    if before is None:
        return text
    change = _median(now) / _median(before) - 1
    worse = f' WORSE by {100 * change:.0f} %' if change > NOTABLE else ''
    return f'{text}, before {_median(before):.3f}{worse}'
