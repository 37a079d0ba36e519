"""Memory over many images, and runs that are killed."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from mmengine.config import Config

from mmscope.benchmark.load_test import make_pictures
from mmscope.benchmark.streams import CLASSES, build, classifier
from mmscope.evaluation.tables import Column, format_table
from mmscope.inference.engine import TwoStageEngine

ARCH = {'embed_dims': 16, 'num_layers': 4}
SIDE = 64
STEPS = [
    {'type': 'LoadImageFromFile'},
    {'type': 'mmpretrain.PackInputs'},
]
RUN = 'from mmscope.cli.main import main; main()'
COLUMNS = (
    Column('images', 'images', ',.0f'),
    Column('mib', 'resident, MiB', '.1f'),
)


@dataclass
class MemoryRun:
    """The resident set of a process that predicted so many ``images``."""

    images: list[int] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)
    images_per_s: float = 0.0


@dataclass
class Kills:
    """What is left of ``images`` after so many ``kills``.

    ``rows_after`` each, and at the end ``rows``, some there ``twice``, and
    images ``lost``.
    """

    images: int
    kills: int
    rows_after: list[int]
    rows: int
    twice: int
    lost: int


def measure_memory(number: int, steps: int = 10) -> MemoryRun:
    """Follow the memory of a process that predicts many images.

    A small model, since what may grow is around it: files are decoded in a
    process of their own, a quarter of the images exits. Memory is looked at
    after each of so many ``steps``.
    """
    model = build('classifier', 'MambaScope', ARCH, SIDE)
    with TemporaryDirectory() as folder:
        paths = _write(Path(folder), 64)
        options = {'pipeline': STEPS, 'num_workers': 1}
        sure = [
            one.confidence
            for one in TwoStageEngine(model, 2.0, **options)(paths)
        ]
        engine = TwoStageEngine(model, sorted(sure)[48], **options)
        found = MemoryRun()
        start = time.monotonic()
        stream = itertools.islice(itertools.cycle(paths), number)
        for count, _ in enumerate(engine(stream), start=1):
            if count % (number // steps) == 0:
                found.images.append(count)
                found.mib.append(round(_resident(), 1))
    found.images_per_s = round(number / (time.monotonic() - start), 1)
    return found


def _resident() -> float:
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def _write(folder: Path, number: int) -> list[Path]:
    paths = []
    for place, content in enumerate(make_pictures(number, SIDE)):
        paths.append(folder / f'{place:05}.jpg')
        paths[-1].write_bytes(content)
    return paths


def measure_kills(number: int, kills: int) -> Kills:
    """Kill ``mmscope infer`` at random moments, and count rows at the end.

    Each SIGKILL comes after a random part of the images that are left.
    """
    rng = random.Random(0)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'images').mkdir()
        paths = _write(folder / 'images', number)
        out = folder / 'results.parquet'
        command = _command(folder, out)
        rows_after = []
        for _ in range(kills):
            done = rows_after[-1] if rows_after else 0
            _kill_at(
                command, out, done + rng.randrange(1, (number - done) // 2)
            )
            rows_after.append(len(pd.read_parquet(out, columns=['name'])))
        subprocess.run(command, check=True, capture_output=True)
        names = pd.read_parquet(out, columns=['name'])['name']
    return Kills(
        number,
        kills,
        rows_after,
        rows=len(names),
        twice=int(names.duplicated().sum()),
        lost=len({path.name for path in paths} - set(names)),
    )


def _command(folder: Path, out: Path) -> list[str]:
    """Write config and checkpoint; give the command line."""
    model = build('classifier', 'MambaScope', ARCH, SIDE)
    config = {
        'default_scope': 'mmpretrain',
        'model': classifier('MambaScope', ARCH, SIDE),
        'test_dataloader': {
            'dataset': {
                'pipeline': STEPS,
                'metainfo': {'classes': [*map(str, range(CLASSES))]},
            }
        },
    }
    Config(config).dump(folder / 'config.py')
    torch.save({'state_dict': model.state_dict()}, folder / 'model.pth')
    return [
        *(sys.executable, '-c', RUN, 'infer'),
        *map(str, (folder / 'config.py', folder / 'model.pth')),
        *(str(folder / 'images'), '--out', str(out), '--threshold', '0.01'),
        *('--rows-per-file', '16', '--device', 'cpu', '--workers', '1'),
    ]


def _kill_at(command: list[str], out: Path, rows: int) -> None:
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while child.poll() is None and 16 * _parts(out) < rows:
            time.sleep(0.001)
    finally:
        # Also where this process is stopped.
        child.kill()
        child.wait()


def _parts(out: Path) -> int:
    return sum(1 for _ in out.glob('part-*.parquet'))


def memory_section(run: MemoryRun) -> str:
    """Format memory, and what it grew by."""
    frame = pd.DataFrame({'images': run.images, 'mib': run.mib})
    return (
        f'{format_table(frame, COLUMNS)}\n\nGrowth after the first '
        f'{run.images[0]:,} images: {run.mib[-1] - run.mib[0]:.1f} MiB, at '
        f'{run.images_per_s:.0f} images/s.'
    )


def kills_section(found: Kills) -> str:
    """Say what was killed when, and what was lost."""
    after = ', '.join(f'{rows:,}' for rows in found.rows_after)
    return (
        f'{found.images:,} images, {found.kills} SIGKILLs (rows after each: '
        f'{after}). At the end {found.rows:,} rows, {found.twice} of them '
        f'twice, {found.lost} images lost.'
    )
