"""The speed of two versions of this package, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from mmscope.benchmark import worker
from mmscope.benchmark.files import read_json, write_json
from mmscope.benchmark.ratios import quartiles
from mmscope.benchmark.setting import Setting
from mmscope.evaluation.interleaved_timing import Entry, time_interleaved
from mmscope.evaluation.tables import Column, format_table

BEFORE, AFTER = 'before', 'after'


@dataclass
class Step:
    """What a change was worth between the commits ``before`` and ``after``.

    ``predicted`` is the expected ratio of times; ``ratios`` are measured
    quartiles by architecture and batch.
    """

    step: str
    predicted: float
    before: str
    after: str
    ratios: dict[str, tuple[float, float, float]]
    setting: Setting = field(default_factory=dict)


class Worker:
    """A checkout's ViM, which runs a forward of 224 x 224 when it is told to.

    The folder holds a built ``mmscope``; ``threads`` are those of torch.
    """

    def __init__(
        self, checkout: str | Path, arch: str, batch: int, threads: int
    ) -> None:
        settings = (Path(checkout).resolve(), arch, batch, threads)
        self._process = subprocess.Popen(
            [sys.executable, worker.__file__, *map(str, settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def forward(self) -> None:
        """Run one forward; a RuntimeError says why it cannot."""
        try:
            print(file=self._process.stdin, flush=True)
            answered = self._process.stdout.readline()
        except BrokenPipeError:
            answered = ''
        if not answered:
            _, said = self._process.communicate()
            raise RuntimeError(f'a checkout cannot run: {said.strip()[-500:]}')


def compare_checkouts(
    before: str | Path,
    after: str | Path,
    archs: list[str],
    batches: list[int],
    repeats: int,
    threads: int | None = None,
) -> dict[str, tuple[float, float, float]]:
    """Time ViM of two checkouts, which hold a built ``mmscope``, in turns.

    Returns:
        dict[str, tuple]: Quartiles of the time after over that before, by
        architecture and batch.
    """
    threads = threads or torch.get_num_threads()
    found = {}
    for arch in archs:
        for batch in batches:
            with ExitStack() as stack:
                entries = {}
                for name, checkout in ((BEFORE, before), (AFTER, after)):
                    process = Worker(checkout, arch, batch, threads)
                    stack.enter_context(process)
                    entries[name] = Entry(process.forward)
                result = time_interleaved(
                    entries, repeats, torch.device('cpu')
                )
            found[f'{arch}, batch {batch}'] = result.ratio(AFTER, BEFORE)
    return found


def add_step(path: str | Path, step: Step) -> None:
    """Put a step into a file of steps, in place of one of the same name."""
    steps = []
    if Path(path).is_file():
        steps = read_json(path, list[Step], 'analysis_tools/compare_speed.py')
    by_name = {old.step: old for old in steps} | {step.step: step}
    write_json(path, list(by_name.values()))


def steps_section(steps: list[Step]) -> str:
    """Format what each change was worth."""
    names = dict.fromkeys(name for step in steps for name in step.ratios)
    columns = [
        Column('step', 'step'),
        Column('predicted', 'predicted', '.2f'),
        *(Column(name, name) for name in names),
        Column('commits', 'commits'),
    ]
    rows = [
        {
            **asdict(step),
            **{name: quartiles(q) for name, q in step.ratios.items()},
            'commits': f'{step.before} to {step.after}',
        }
        for step in steps
    ]
    return format_table(rows, columns)
