"""Memory over many images, and runs that are killed."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config

from mmscope.benchmark.load_test import make_pictures
from mmscope.benchmark.streams import CLASSES, build, classifier
from mmscope.inference.engine import TwoStageEngine

ARCH = {'embed_dims': 16, 'num_layers': 4}
SIDE = 64
STEPS = [
    {'type': 'LoadImageFromFile'},
    {'type': 'mmpretrain.PackInputs'},
]
RUN = 'from mmscope.cli.main import main; main()'


def measure_memory(number: int, steps: int = 10) -> dict[str, Any]:
    """Follow the memory of a process that predicts many images.

    A small model, since what may grow is around it: files are decoded in a
    process of their own, a quarter of the images exits.

    Args:
        number (int): Images.
        steps (int): Times that memory is looked at. Defaults to 10.

    Returns:
        dict: ``images`` and ``mib``, the resident set after so many, and
        ``images_per_s``.
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
        found = {'images': [], 'mib': []}
        start = time.monotonic()
        stream = itertools.islice(itertools.cycle(paths), number)
        for count, _ in enumerate(engine(stream), start=1):
            if count % (number // steps) == 0:
                found['images'].append(count)
                found['mib'].append(round(_resident(), 1))
    speed = number / (time.monotonic() - start)
    return {**found, 'images_per_s': round(speed, 1)}


def _resident() -> float:
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def _write(folder: Path, number: int) -> list[Path]:
    paths = []
    for place, content in enumerate(make_pictures(number, SIDE)):
        paths.append(folder / f'{place:05}.jpg')
        paths[-1].write_bytes(content)
    return paths


def measure_kills(number: int, kills: int) -> dict[str, Any]:
    """Kill ``mmscope infer`` at random moments, and count rows at the end.

    Args:
        number (int): Images.
        kills (int): SIGKILLs; each comes after a random part of the images
            that are left.

    Returns:
        dict: ``images``, ``kills``, ``rows_after`` each kill, and at the end
        ``rows``, ``twice`` and ``lost``.
    """
    import pandas as pd

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
    return {
        'images': number,
        'kills': kills,
        'rows_after': rows_after,
        'rows': len(names),
        'twice': int(names.duplicated().sum()),
        'lost': len({path.name for path in paths} - set(names)),
    }


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
    while child.poll() is None and 16 * _parts(out) < rows:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()


def _parts(out: Path) -> int:
    return sum(1 for _ in out.glob('part-*.parquet'))
