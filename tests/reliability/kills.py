"""Kills a small real training at random moments, and resumes it.

    python -m reliability.kills [--number 20] [--seed 0] [--json FILE]

in the folder ``tests``. ``tools/train.py`` runs on rendered scenes, in a
process that is forked with everything imported. Half of the kills come as
soon as a checkpoint's file appears, half at any time before the next. Each
killed training is resumed; weights and optimizer at its end are compared bit
for bit with those of a training that nobody killed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from test_tools.tiny import train_args

STEPS, INTERVAL = 24, 2
OPTIONS = [
    f'train_cfg.max_iters={STEPS}',
    f'train_cfg.val_interval={STEPS}',
    f'param_scheduler.1.end={STEPS}',
    f'default_hooks.checkpoint.interval={INTERVAL}',
    'default_hooks.checkpoint.save_best=None',
]


def start(work_dir: Path, *options: str) -> int:
    """Start a training; returns the process."""
    child = os.fork()
    if child:
        return child
    from mmscope.cli.train import main

    status = 1
    try:
        with open(work_dir.with_suffix('.log'), 'a') as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
            main(train_args(work_dir, *options, options=OPTIONS))
        status = 0
    finally:
        os._exit(status)


def finish(child: int, work_dir: Path) -> None:
    """Wait for the end of a training, which must be a good one."""
    _, status = os.waitpid(child, 0)
    if status:
        text = work_dir.with_suffix('.log').read_text()[-2000:]
        raise RuntimeError(f'a training ended with {status}: {text}')


def kill_when(child: int, ready: Callable[[], bool]) -> bool:
    """Kill a training at a moment; returns whether it was still running."""
    while not ready():
        done, _ = os.waitpid(child, os.WNOHANG)
        if done:
            return False
        time.sleep(0.0002)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def same_end(one: Path, other: Path) -> bool:
    """Whether two trainings ended with the same weights and optimizer."""
    import torch

    found = [
        torch.load(path / f'iter_{STEPS}.pth', weights_only=False)
        for path in (one, other)
    ]
    leaves = [
        torch.utils._pytree.tree_leaves([f['state_dict'], f['optimizer']])
        for f in found
    ]
    return len(leaves[0]) == len(leaves[1]) and all(
        torch.equal(a, b) if torch.is_tensor(a) else a == b
        for a, b in zip(*leaves, strict=True)
    )


def step_of(path: str | None) -> int:
    """Steps that a checkpoint has behind it."""
    return int(Path(path).stem.split('_')[1]) if path else 0


def trial(
    folder: Path, reference: Path, seconds: float, rng: np.random.Generator
) -> dict:
    """Kill and resume one training.

    Args:
        folder (Path): Its work directory.
        reference (Path): That of the training that nobody killed.
        seconds (float): How long that one took.
        rng (np.random.Generator): For the moment.

    Returns:
        dict: When it was killed, what lay there, where it went on, and
        whether the end is the same.
    """
    from mmscope.runtime import latest_checkpoint

    writing = bool(rng.random() < 0.5)
    step = INTERVAL * int(rng.integers(1, STEPS // INTERVAL))
    wait = 0 if writing else seconds / STEPS * INTERVAL * rng.random()
    file, seen = folder / f'iter_{step}.pth', []

    def ready() -> bool:
        if not seen and file.exists():
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() - seen[0] >= wait

    killed = kill_when(start(folder), ready)
    saved = sorted(folder.glob('iter_*.pth'))
    complete = [path for path in saved if zipfile.is_zipfile(path)]
    newest = max(map(step_of, map(str, complete)), default=0)
    resumed = step_of(latest_checkpoint(folder))
    finish(start(folder, '--resume'), folder)
    return {
        'moment': f'iter_{step}.pth appears'
        if writing
        else f'{wait:.2f} s after iter_{step}.pth appeared',
        'killed': killed,
        'incomplete_files': len(saved) - len(complete),
        'newest_complete': newest,
        'resumed_from': resumed,
        'same_end': same_end(folder, reference),
    }


def run(number: int, seed: int, root: Path) -> dict:
    """Start and resume trainings until so many were killed.

    Args:
        number (int): Kills.
        seed (int): Of the moments.
        root (Path): Empty folder to work in.

    Returns:
        dict: ``steps``, ``interval`` of checkpoints, and ``trials``.
    """
    from mmscope.datasets.demo_writer import write_scenes

    scenes = write_scenes(root, train=9, val=2, height=72, width=96)
    os.environ['MMSCOPE_ADE20K'] = str(scenes)
    reference = root / 'reference'
    begin = time.monotonic()
    finish(start(reference), reference)
    seconds = time.monotonic() - begin
    trials: list[dict] = []
    # One that ended before its moment came is none.
    while sum(found['killed'] for found in trials) < number:
        index = len(trials)
        rng = np.random.default_rng([seed, index])
        found = trial(root / f'killed_{index}', reference, seconds, rng)
        print(index, found, file=sys.stderr, flush=True)
        trials.append(found)
    return {'steps': STEPS, 'interval': INTERVAL, 'trials': trials}


def load() -> None:
    """Import everything once, before processes are forked."""
    import mmseg.models  # noqa: F401
    from mmseg.utils import register_all_modules

    import mmscope.cli.train  # noqa: F401

    register_all_modules(init_default_scope=False)


def main() -> None:
    """Kill trainings, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--number', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    load()
    with tempfile.TemporaryDirectory() as root:
        found = run(args.number, args.seed, Path(root))
    result = {
        'command': f'python -m reliability.kills --number {args.number} '
        f'--seed {args.seed}',
        **found,
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + '\n')
    wrong = [t for t in result['trials'] if not t['same_end']]
    print(f'{len(result["trials"])} trainings, {len(wrong)} ended otherwise')
    raise SystemExit(bool(wrong))


if __name__ == '__main__':
    main()
