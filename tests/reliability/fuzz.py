"""Damages small data sets at random, and says what came of each.

    python -m reliability.fuzz [--number 2000] [--seed 0] [--json FILE]

in the folder ``tests``. Every data set is used in a process of its own, with
a limit of time: built, every item loaded, COCO files also scored.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from . import class_folders, coco, scenes
from .mutations import REFUSED, SOUND, Mutation

KINDS: dict[str, ModuleType] = {
    'COCO file': coco,
    'class folders': class_folders,
    'segmentation': scenes,
}
OUTCOMES = ('right', 'clear error', 'unclear', 'silent', 'crash', 'hang')
# Of a process that does nothing and of one that computes, in seconds.
WALL, CPU = 120, 20
# Share of data sets that are damaged twice.
TWICE = 0.25


def choose(kind: str, rng: np.random.Generator) -> list[Mutation]:
    """Draw one or two mutations.

    One that must be refused has no partner that may change what is loaded:
    that could undo it.
    """
    all_of = KINDS[kind].MUTATIONS
    first, second = (all_of[i] for i in rng.integers(len(all_of), size=2))
    mixed = {first.wanted, second.wanted} == {REFUSED, SOUND}
    if mixed or first is second or rng.random() >= TWICE:
        return [first]
    return [first, second]


def attempt(
    kind: str, mutations: Sequence[Mutation], seed: int
) -> tuple[str, str]:
    """Damage and use one data set in a process of its own.

    Args:
        kind (str): Key of ``KINDS``.
        mutations (Sequence[Mutation]): What is done to it, in order.
        seed (int): Of the random choices in them.

    Returns:
        tuple[str, str]: One of ``OUTCOMES``, and the last words.
    """
    with tempfile.TemporaryDirectory() as place:
        root, said = Path(place) / 'data', Path(place) / 'said'
        child = os.fork()
        if not child:
            _child(kind, mutations, seed, root, said)
        status = _wait(child)
        text = said.read_text() if said.is_file() else ''
        if status is None or -status == signal.SIGXCPU:
            return 'hang', text
        if status or not text:
            return 'crash', f'status {status}: {text}'
        return tuple(json.loads(text))


def _wait(child: int) -> int | None:
    """Status of a process; None if it did not end."""
    end = time.monotonic() + WALL
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _child(
    kind: str,
    mutations: Sequence[Mutation],
    seed: int,
    root: Path,
    said: Path,
) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU + 5))
    try:
        root.mkdir()
        with open(os.devnull, 'w') as nowhere:
            with contextlib.redirect_stdout(nowhere):
                result = _judge(kind, mutations, seed, root)
        draft = said.with_suffix('.part')
        draft.write_text(json.dumps(result))
        draft.rename(said)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _judge(
    kind: str, mutations: Sequence[Mutation], seed: int, root: Path
) -> tuple[str, str]:
    """Use a data set, and compare with what must come of it."""
    from mmscope.errors import DatasetLayoutError

    rng = np.random.default_rng(seed)
    module = KINDS[kind]
    module.write(root)
    wanted = {m.wanted for m in mutations}
    for mutation in mutations:
        # The first may have taken the file away, or its text.
        with contextlib.suppress(OSError, ValueError):
            mutation.apply(root, rng)
    with _warnings() as warned:
        try:
            after = module.use(root, rng)
        except DatasetLayoutError as error:
            # It must say where; what was wrong there is for people to judge.
            text = str(error)
            named = str(root) in text or 'image /etc/passwd' in text
            return 'clear error' if named else 'unclear', str(error)
        except AssertionError as error:
            if _is_ours(error):
                return 'silent', str(error)[:300]
            return 'unclear', traceback.format_exc()[-1500:]
        except Exception:
            return 'unclear', traceback.format_exc()[-1500:]
    if warned:
        return 'right', warned[0]
    strict = REFUSED in wanted or SOUND not in wanted
    if strict and after != _undamaged(module, root):
        return 'silent', 'no error, no warning, and something else was loaded'
    return 'right', ''


def _undamaged(module: ModuleType, root: Path) -> list:
    """What the data set gives without damage."""
    shutil.rmtree(root)
    root.mkdir()
    module.write(root)
    return module.use(root, np.random.default_rng(0))


def _is_ours(error: AssertionError) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename).parent == Path(__file__).parent


@contextlib.contextmanager
def _warnings():
    """Collect what the hosts' logger warns of."""
    from mmengine.logging import MMLogger

    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.handlers = [handler]
    yield found
    logger.handlers = []


def load_hosts() -> None:
    """Import everything once, before processes are forked."""
    import cv2
    import mmdet.evaluation
    import mmseg.datasets
    from mmengine.registry import init_default_scope
    from mmpretrain.utils import register_all_modules

    from mmscope import datasets

    cv2.setNumThreads(0)
    register_all_modules(init_default_scope=False)
    for name in ('CamVidDataset', 'CocoDetectionDataset', 'ImageFolder'):
        getattr(datasets, name)
    mmdet.utils.register_all_modules(init_default_scope=False)
    mmseg.utils.register_all_modules(init_default_scope=False)
    init_default_scope('mmdet')
    # What is there already is not copied into every process.
    gc.freeze()


def enter(kind: str) -> None:
    """Make the host of a kind the one whose transforms are meant."""
    from mmengine.registry import init_default_scope

    scopes = dict(zip(KINDS, ('mmdet', 'mmpretrain', 'mmseg'), strict=True))
    init_default_scope(scopes[kind])


def fuzz(number: int, seed: int) -> dict:
    """Damage so many data sets, the kinds in turns.

    Args:
        number (int): Data sets.
        seed (int): Of all random choices.

    Returns:
        dict: ``outcomes`` by kind, and ``faults``: those that are neither
        right nor clearly refused.
    """
    counts = {kind: Counter() for kind in KINDS}
    faults = []
    for index in range(number):
        kind = list(KINDS)[index % len(KINDS)]
        rng = np.random.default_rng([seed, index])
        mutations = choose(kind, rng)
        enter(kind)
        outcome, text = attempt(kind, mutations, int(rng.integers(2**31)))
        counts[kind][outcome] += 1
        if outcome not in OUTCOMES[:2]:
            names = [m.name for m in mutations]
            # Whole tracebacks name this machine's folders.
            last = text.strip().rpartition('\n')[2]
            faults.append([index, kind, names, outcome, last])
            print(f'{index} {kind} {names}: {outcome}\n{text}', flush=True)
        if index % 100 == 99:
            print(f'{index + 1} of {number}', file=sys.stderr, flush=True)
    outcomes = {
        kind: {outcome: count[outcome] for outcome in OUTCOMES}
        for kind, count in counts.items()
    }
    return {'outcomes': outcomes, 'faults': faults}


def main() -> None:
    """Fuzz, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--number', type=int, default=2000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    load_hosts()
    result = {
        'command': f'python -m reliability.fuzz --number {args.number} '
        f'--seed {args.seed}',
        'kinds_of_damage': {k: len(m.MUTATIONS) for k, m in KINDS.items()},
        **fuzz(args.number, args.seed),
    }
    print(json.dumps(result['outcomes'], indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
