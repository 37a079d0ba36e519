"""One process against two: the same losses, metrics and exits.

    python -m reliability.processes [--steps 30] [--json FILE]

in the folder ``tests``. MMEngine's runner trains small models without batch
statistics, stochastic depth or augmentation, alone and in two processes that
torchrun starts on gloo, with the same global batches of odd numbers of
images. Then both evaluate the checkpoint that the one process wrote.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from builders import classification, segmentation
from mmengine.config import Config
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmscope.evaluation import EarlyExitMetric
from mmscope.models import at_threshold
from mmscope.runtime import (
    adapt_to_machine,
    latest_checkpoint,
    leaving_together,
)

from .repeats import between

TESTS = Path(__file__).resolve().parents[1]
PROCESSES = 2
# Images of a step, and of a batch that is evaluated, over all processes.
BATCH = 6


def classifier(root: Path, work_dir: Path, steps: int) -> Config:
    """Config of a small MambaScope classifier on 27 photos."""
    if not root.exists():
        classification.write_photos(root, per_class=9)
    model = classification.classifier(drop_path_rate=0.0)
    cfg = classification.config(
        root,
        work_dir,
        model,
        # Of 27 photos an epoch takes 24, whoever is asked for them.
        epochs=-(-steps // (27 // BATCH)),
    )
    cfg.train_dataloader.drop_last = True
    return cfg


def segmentor(root: Path, work_dir: Path, steps: int) -> Config:
    """Config of a small MambaScope UperNet on nine scenes."""
    if not root.exists():
        segmentation.write_scenes(root, num=9, size=(64, 64))
    norm = {'type': 'GN', 'num_groups': 4}
    model = segmentation.segmentor(drop_path_rate=0.0)
    model['neck']['norm_cfg'] = norm
    for head in ('decode_head', 'auxiliary_head'):
        model[head].update(norm_cfg=norm, dropout_ratio=0.0)
    cfg = segmentation.config(root, work_dir, model, iters=steps)
    # Enough for predictions of more than one class.
    cfg.optim_wrapper.optimizer.lr = 0.01
    return cfg


HOSTS: dict[str, Callable[[Path, Path, int], Config]] = {
    'classification': classifier,
    'segmentation': segmentor,
}


class LossesHook(Hook):
    """Keeps the losses of this process, step by step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict | None = None,
    ) -> None:
        """Keep those of one step."""
        self.steps.append(
            {k: v.item() for k, v in outputs.items() if 'loss' in k}
        )


def score(runner: Runner, eta: float) -> dict:
    """Evaluate at a threshold: metrics, and what each image did."""
    with at_threshold(runner.model, eta):
        found = runner.test()
    # Some hosts give numbers of NumPy.
    metrics = {name: float(value) for name, value in found.items()}
    (results,) = (
        metric.last_results
        for metric in runner.test_loop.evaluator.metrics
        if isinstance(metric, EarlyExitMetric)
    )
    images = [asdict(image) for image in results or []]
    return {'threshold': eta, 'metrics': metrics, 'images': images}


def run(cfg: Config, checkpoint_of: Path, etas: list[float] | None) -> dict:
    """Train, and evaluate a checkpoint.

    Args:
        cfg (Config): Of a host.
        checkpoint_of (Path): Work directory of the run that wrote it.
        etas (list[float] | None): Exit thresholds; None for five between
            the confidences of the images.

    Returns:
        dict: ``losses``, those of each process, and ``scores``.
    """
    runner, losses = Runner.from_cfg(cfg), LossesHook()
    runner.register_hook(losses)
    runner.train()
    every = all_gather_object(losses.steps)
    runner.load_checkpoint(latest_checkpoint(checkpoint_of))
    if etas is None:
        sure = score(runner, 2.0)['images']
        etas = between(np.array([image['confidence'] for image in sure]))
    scores = [score(runner, eta) for eta in etas]
    sizes = {
        name: len(loader.dataset)
        for name, loader in (
            ('train_images', runner.train_dataloader),
            ('test_images', runner.test_dataloader),
        )
    }
    return {**sizes, 'losses': every, 'scores': scores}


def work(host: str, root: Path, processes: int, steps: int) -> None:
    """Be one of the processes; the first writes what came of it."""
    work_dir, one = (root / f'{host}_{n}' for n in (processes, 1))
    cfg = HOSTS[host](root / host, work_dir, steps)
    cfg.launcher = 'pytorch' if processes > 1 else 'none'
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].batch_size = BATCH // processes
    adapt_to_machine(cfg)
    etas = None
    if processes > 1:
        scores = json.loads(one.with_suffix('.json').read_text())['scores']
        etas = [found['threshold'] for found in scores]
    with leaving_together():
        found = run(cfg, one, etas)
        if is_main_process():
            work_dir.with_suffix('.json').write_text(json.dumps(found))


def start(host: str, root: Path, processes: int, steps: int) -> dict:
    """Run a host in so many processes; returns what they wrote."""
    torchrun = [
        *('-m', 'torch.distributed.run', '--standalone'),
        f'--nproc_per_node={processes}',
    ]
    done = subprocess.run(
        [
            sys.executable,
            *(torchrun if processes > 1 else []),
            *('-m', 'reliability.processes', '--work', root),
            *('--hosts', host, '--processes', str(processes)),
            *('--steps', str(steps)),
        ],
        cwd=TESTS,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f'{host}, {processes}: {done.stderr[-3000:]}')
    return json.loads((root / f'{host}_{processes}.json').read_text())


def compare(one: dict, two: dict) -> dict:
    """Compare what one process found with what two found.

    Args:
        one (dict): Of :func:`run`.
        two (dict): The same, of two processes.

    Returns:
        dict: Numbers of images and steps, the largest difference of a term
        of the loss relative to it, and what differs at each threshold.
    """
    (alone,), together = one['losses'], two['losses']
    if {len(steps) for steps in together} != {len(alone)}:
        raise RuntimeError('the runs have different numbers of steps')
    # A term near zero has few digits of its own: relative to the step's loss.
    largest = max(
        abs(np.mean([steps[i][name] for steps in together]) - value)
        / losses['loss']
        for i, losses in enumerate(alone)
        for name, value in losses.items()
    )
    tests = []
    for a, b in zip(one['scores'], two['scores'], strict=True):
        decided = [_decisions(found['images']) for found in (a, b)]
        pairs = itertools.zip_longest(*decided)
        tests.append(
            {
                'threshold': a['threshold'],
                'counted': [len(images) for images in decided],
                'exits': sum(image['exited'] for image in a['images']),
                'other_decisions': sum(x != y for x, y in pairs),
                'metrics': a['metrics'],
                'other_metrics': sorted(
                    k for k, v in a['metrics'].items() if b['metrics'][k] != v
                ),
            }
        )
    sizes = {k: one[k] for k in ('train_images', 'test_images')}
    return {
        **sizes,
        'steps': len(alone),
        'first_loss': alone[0]['loss'],
        'last_loss': alone[-1]['loss'],
        'largest_difference': float(largest),
        'tests': tests,
    }


def _decisions(images: list[dict]) -> list[dict]:
    """Which image, who left, tokens and cost; confidence is rounded."""
    return [
        {key: value for key, value in image.items() if key != 'confidence'}
        for image in images
    ]


def main(argv: list[str] | None = None) -> None:
    """Run both, compare, and write what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--hosts', nargs='+', default=list(HOSTS))
    parser.add_argument('--steps', type=int, default=30)
    parser.add_argument('--json', type=Path)
    # Of those that it starts.
    parser.add_argument('--work', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--processes', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.work:
        return work(args.hosts[0], args.work, args.processes, args.steps)
    result = {
        'command': f'python -m reliability.processes --steps {args.steps}'
    }
    with tempfile.TemporaryDirectory() as root:
        result['hosts'] = {
            host: compare(
                *(
                    start(host, Path(root), n, args.steps)
                    for n in (1, PROCESSES)
                )
            )
            for host in args.hosts
        }
    text = json.dumps(result, indent=1) + '\n'
    (args.json.write_text if args.json else sys.stdout.write)(text)


if __name__ == '__main__':
    main()
