"""The speed of two versions of this package, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import torch

from mmscope.benchmark import worker
from mmscope.evaluation.interleaved_timing import Entry, time_interleaved

BEFORE, AFTER = 'before', 'after'


class Worker:
    """A checkout's ViM, which runs a forward when it is told to.

    Args:
        checkout (str | Path): Folder that holds a built ``mmscope``.
        arch (str): Architecture.
        batch (int): Images of a forward, 224 x 224.
        threads (int): Threads of torch.
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
        """Run one forward and wait for its end.

        Raises:
            RuntimeError: If the process ended, with what it said last.
        """
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
) -> dict[str, list[float]]:
    """Time ViM of two checkouts in turns.

    Args:
        before (str | Path): Folder that holds a built ``mmscope``.
        after (str | Path): The same, of the other version.
        archs (list[str]): Architectures.
        batches (list[int]): Batch sizes.
        repeats (int): Timed rounds.
        threads (int | None): Threads of torch, its own number for None.
            Defaults to None.

    Returns:
        dict[str, list[float]]: Quartiles of the time after over that before,
        by architecture and batch.

    Raises:
        RuntimeError: If a checkout cannot run, with the reason.
    """
    threads = threads or torch.get_num_threads()
    found = {}
    for arch in archs:
        for batch in batches:
            with ExitStack() as stack:
                workers = {
                    name: stack.enter_context(
                        Worker(checkout, arch, batch, threads)
                    )
                    for name, checkout in ((BEFORE, before), (AFTER, after))
                }
                entries = {
                    name: Entry(process.forward)
                    for name, process in workers.items()
                }
                result = time_interleaved(
                    entries, repeats, torch.device('cpu')
                )
            found[f'{arch}, batch {batch}'] = result.ratio(AFTER, BEFORE)
    return found


def add_step(path: str | Path, step: dict) -> None:
    """Put a step into the file of steps, in place of one of the same name.

    Args:
        path (str | Path): JSON file with a list; made if it is not there.
        step (dict): With 'step', its name.
    """
    path = Path(path)
    steps = json.loads(path.read_text()) if path.is_file() else []
    by_name = {old['step']: old for old in steps} | {step['step']: step}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(list(by_name.values()), indent=2) + '\n'
    path.write_text(text, encoding='utf-8')
