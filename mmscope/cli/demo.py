"""See MambaScope exit at once, then train one: minutes on a CPU.

    python tools/demo.py [--first-look]

First the small classifier that comes with the package looks at rendered
pictures, which takes seconds. Then the real
``configs/ade20k/mambascope_ti_upernet.py`` runs on rendered scenes in
ADE20K's layout, from scratch, with a shorter schedule, smaller crops and a
larger learning rate; everything else is the config's. An interrupted run
goes on where it stopped. Scores on rendered scenes say nothing about photos.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
import warnings
from pathlib import Path

# Threads that wait without spinning: read when torch is loaded, and several
# times faster where other programs want the same cores.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmscope.cli.first_look import MODEL, first_look
from mmscope.datasets.demo_writer import write_scenes
from mmscope.errors import user_errors
from mmscope.evaluation import SweepResult, measure_throughput, sweep
from mmscope.evaluation.loading import (
    build_dataloader,
    build_model,
    open_config,
)
from mmscope.evaluation.scores import SegmentationScore
from mmscope.models import attach_gate
from mmscope.runtime import (
    StepSeedHook,
    disk_errors,
    ending_cleanly,
    latest_checkpoint,
)
from mmscope.visualization import (
    curve_figure,
    draw_exit_gallery,
    draw_scopes,
    save,
)

CONFIG = 'ade20k/mambascope_ti_upernet'
DONE = 'demo_recipe.json'
# Between "everyone exits" and "nobody exits".
NUM_QUANTILES = 4


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--work-dir', default='work_dirs/demo')
    parser.add_argument(
        '--first-look',
        action='store_true',
        help='stop before the training',
    )
    parser.add_argument(
        '--iters', type=int, default=150, help='training steps'
    )
    parser.add_argument(
        '--batch-size', type=int, default=4, help='images a step'
    )
    parser.add_argument('--crop', type=int, default=128, help='pixels')
    parser.add_argument('--train', type=int, default=200, help='scenes')
    parser.add_argument('--val', type=int, default=40, help='scenes')
    parser.add_argument(
        '--speed-images', type=int, default=8, help='images that are timed'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}
    )
    return parser.parse_args(argv)


def overrides(args: argparse.Namespace, data: Path) -> dict:
    """What the demo changes in the real config.

    Args:
        args (argparse.Namespace): Command line.
        data (Path): Folder ``ADEChallengeData2016``.

    Returns:
        dict: Config entries by dotted key, as ``--cfg-options`` takes them.
    """
    side, crop = (4 * args.crop, args.crop), (args.crop, args.crop)
    warmup = max(1, args.iters // 10)
    changes = {
        'model.backbone.init_cfg': None,
        'model.backbone.img_size': args.crop,
        'model.data_preprocessor.size': crop,
        'train_dataloader.batch_size': args.batch_size,
        'train_dataloader.dataset.pipeline.2.scale': side,
        'train_dataloader.dataset.pipeline.3.crop_size': crop,
        'test_dataloader.dataset.pipeline.1.scale': side,
        'optim_wrapper.optimizer.lr': 3e-3,
        'param_scheduler.0.end': warmup,
        'param_scheduler.1.begin': warmup,
        'param_scheduler.1.end': args.iters,
        'train_cfg.max_iters': args.iters,
        'default_hooks.logger.interval': 10,
        'default_hooks.checkpoint.interval': max(1, args.iters // 5),
        'default_hooks.checkpoint.save_best': None,
        # Of one alone nothing is left while the next is written.
        'default_hooks.checkpoint.max_keep_ckpts': 2,
    }
    for loader in ('train_dataloader', 'test_dataloader'):
        changes[f'{loader}.dataset.data_root'] = str(data)
        # Two cores are busy with the model; loading takes a few per cent.
        changes[f'{loader}.num_workers'] = 0
        changes[f'{loader}.persistent_workers'] = False
    return {**changes, **args.cfg_options}


def load_config(changes: dict, work_dir: Path) -> Config:
    """Load the real config with the demo's changes.

    Args:
        changes (dict): Of :func:`overrides`.
        work_dir (Path): Where logs and checkpoints go.

    Returns:
        Config: Ready for the runner. Validation in between is left out: the
        sweep afterwards scores all thresholds at once.
    """
    cfg = open_config(CONFIG, changes)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.work_dir = str(work_dir)
    return cfg


class _QuietRunner(Runner):
    """Keeps the whole config and twelve losses a step in the log file."""

    def build_logger(self, *args: object, **kwargs: object) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        logger.handlers[0].setLevel('ERROR')
        return logger


class _Progress(Hook):
    """One short line every few steps; the log file has everything."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.start = None

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        step = runner.iter + 1
        if self.start is None:
            self.start = (time.perf_counter(), step)
        since, first = self.start
        if step % self.interval and step != runner.max_iters:
            return
        seconds = (time.perf_counter() - since) / max(1, step - first)
        left = seconds * (runner.max_iters - step)
        print(
            f'  step {step:>4} of {runner.max_iters}: '
            f'loss {float(outputs["loss"].detach()):6.3f}, '
            f'fine accuracy {float(outputs["decode.acc_seg"]):5.1f} %, '
            f'coarse {float(outputs["coarse_decode.acc_seg"]):5.1f} %, '
            f'{left:4.0f} s to go',
            flush=True,
        )


def train(cfg: Config, recipe: dict) -> Path:
    """Train, or go on, unless the same training is finished.

    Args:
        cfg (Config): Complete config.
        recipe (dict): What tells one training from another.

    Returns:
        Path: The last checkpoint.
    """
    folder = Path(cfg.work_dir)
    mark, text = folder / DONE, json.dumps(recipe, indent=1, default=str)
    if mark.is_file() and mark.read_text() != text:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(text)
    last = folder / f'iter_{cfg.train_cfg.max_iters}.pth'
    if last.is_file():
        print(f'  finished before: {last}')
        return last
    if found := latest_checkpoint(folder):
        print(f'  going on from {found}')
        cfg.resume, cfg.load_from = True, found
    runner = _QuietRunner.from_cfg(cfg)
    runner.register_hook(StepSeedHook())
    interval = cfg.default_hooks.logger.interval
    runner.register_hook(_Progress(interval), 'LOW')
    runner.train()
    return last


def score_priors(dataset: object, cfg: Config) -> dict[str, float]:
    """Score what needs no picture: the training set's commonest classes.

    Args:
        dataset (object): Test data set.
        cfg (Config): Complete config.

    Returns:
        dict[str, float]: mIoU in percent of the commonest class everywhere
        (``overall``) and of the commonest at each place (``position``).
    """
    from mmengine.structures import PixelData

    loader = build_dataloader(
        Config({**cfg, 'test_dataloader': _unaugmented(cfg)}), 'test', 1
    )
    masks = [
        item['data_samples'][0].gt_sem_seg.data[0].numpy() for item in loader
    ]
    counts = np.stack([(np.stack(masks) == c).sum(0) for c in range(150)])
    guesses = {
        'overall': np.full_like(masks[0], counts.sum((1, 2)).argmax()),
        'position': counts.argmax(0),
    }
    score = SegmentationScore(150)
    totals = dict.fromkeys(guesses, 0)
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        for name, guess in guesses.items():
            sample.pred_sem_seg = PixelData(data=torch.from_numpy(guess)[None])
            totals[name] = totals[name] + score.measure(sample)
    return {name: float(score.total(s)) for name, s in totals.items()}


def _unaugmented(cfg: Config) -> dict:
    """The training images through the test pipeline."""
    loader = cfg.test_dataloader.to_dict()
    prefix = cfg.train_dataloader.dataset.data_prefix.to_dict()
    loader['dataset'] = {**loader['dataset'], 'data_prefix': prefix}
    return loader


def evaluate(
    cfg: Config, checkpoint: Path, args: argparse.Namespace
) -> tuple[SweepResult, dict[str, float], list[Path]]:
    """Sweep the thresholds, time real runs, draw pictures.

    Args:
        cfg (Config): Complete config.
        checkpoint (Path): Trained weights.
        args (argparse.Namespace): Command line.

    Returns:
        tuple[SweepResult, dict[str, float], list[Path]]: Curve, baselines
        and pictures.
    """
    model = build_model(cfg, str(checkpoint))
    loader = build_dataloader(cfg, 'test')
    result = sweep(model, loader, NUM_QUANTILES)
    thresholds = result.rows['threshold'].tolist()
    result.add_throughput(
        measure_throughput(
            model,
            loader,
            thresholds,
            batch_sizes=[1],
            max_images=args.speed_images,
            repeats=2,
        )
    )
    result.meta = {'name': 'MambaScope-Ti', 'config': CONFIG}
    priors = score_priors(loader.dataset, cfg)
    folder = Path(args.work_dir) / 'pictures'
    median = thresholds[len(thresholds) // 2]
    attach_gate(model, median)
    files = draw_scopes(model, loader.dataset, folder, _spread(result, 6))
    files.append(
        draw_exit_gallery(
            model, loader.dataset, folder / 'exits.png', result.images, 4
        )
    )
    figure = curve_figure({result.meta['name']: result})
    files.append(save(figure, folder / 'curve.png'))
    result.to_json(Path(args.work_dir) / 'sweep.json')
    return result, priors, files


def _spread(result: SweepResult, number: int) -> list[int]:
    """Images from the most to the least confident, evenly spread."""
    order = np.argsort(-result.images['confidence'].to_numpy())
    picks = np.linspace(0, len(order) - 1, min(number, len(order)))
    return [int(order[int(pick)]) for pick in picks]


@ending_cleanly(': the same command goes on from the last checkpoint')
def main(argv: list[str] | None = None) -> None:
    """Run the demo."""
    args = parse_args(argv)
    hint = 'Free some space or name another folder with --work-dir'
    with user_errors(), disk_errors(args.work_dir, hint):
        run(args)


def run(args: argparse.Namespace) -> None:
    """Render, train, evaluate.

    Args:
        args (argparse.Namespace): Command line.
    """
    # The hosts' remarks on settings that the demo leaves alone.
    warnings.filterwarnings('ignore', module=r'mm(seg|cv|engine)\.')
    start = time.perf_counter()
    work_dir = Path(args.work_dir)

    def stage(title: str) -> None:
        print(f'[{time.perf_counter() - start:4.0f} s] {title}', flush=True)

    stage(f'looking at pictures with the model {MODEL!r} of the package')
    look, files = first_look(work_dir / 'pictures')
    print(f'{look.table()}\npictures: {", ".join(map(str, files))}\n')
    if args.first_look:
        return
    stage('rendering scenes in the layout of ADE20K')
    with user_errors(OSError):
        data = write_scenes(
            work_dir / 'data', train=args.train, val=args.val
        ).absolute()
    changes = overrides(args, data)
    stage(f'training {CONFIG} from scratch, {args.iters} steps, with')
    for key, value in changes.items():
        print(f'  {key} = {value}')
    cfg = load_config(changes, work_dir / 'train')
    checkpoint = train(cfg, changes)
    stage(f'evaluating every threshold on {args.val} scenes')
    result, priors, files = evaluate(cfg, checkpoint, args)
    stage('done\n')
    print(result.table())
    print(
        f'\nmIoU without looking at the picture: {priors["overall"]:.2f} '
        '(commonest class everywhere), '
        f'{priors["position"]:.2f} (commonest class at each place)\n'
        f'\npictures:   {files[0].parent}\nnumbers:    '
        f'{work_dir / "sweep.json"}\ncheckpoint: {checkpoint}'
    )
