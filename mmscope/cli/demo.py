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
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

# Threads that wait without spinning: read when torch is loaded, and several
# times faster where other programs want the same cores.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from torch.utils.data import DataLoader

from mmscope.cli.arguments import add_cfg_options, tool_parser
from mmscope.cli.demo_training import CONFIG, demo_config, overrides, train
from mmscope.cli.first_look import MODEL, first_look
from mmscope.datasets.demo_writer import write_scenes
from mmscope.errors import user_errors
from mmscope.evaluation import (
    SweepResult,
    measure_throughput,
    representative_images,
    sweep,
)
from mmscope.evaluation.loading import build_dataloader, build_model
from mmscope.evaluation.segmentation import SegmentationScore
from mmscope.evaluation.sweep_meta import SweepMeta
from mmscope.models import attach_gate
from mmscope.runtime import disk_errors, ending_cleanly
from mmscope.visualization import (
    curve_figure,
    draw_exit_gallery,
    draw_scopes,
    evenly_by,
    save,
)

# Between "everyone exits" and "nobody exits".
NUM_QUANTILES = 4
# Of ADE20K.
NUM_CLASSES = 150


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add('--work-dir', default='work_dirs/demo')
    add('--first-look', action='store_true', help='stop before the training')
    add('--iters', type=int, default=150, help='training steps')
    add('--batch-size', type=int, default=4, help='images a step')
    add('--crop', type=int, default=128, help='pixels')
    add('--train', type=int, default=200, help='scenes')
    add('--val', type=int, default=40, help='scenes')
    add('--speed-images', type=int, default=8, help='images that are timed')
    add_cfg_options(parser)
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Priors:
    """MIoU in percent of guesses that look at no picture.

    Args:
        overall (float): The training set's commonest class everywhere.
        position (float): The commonest at each place.
    """

    overall: float
    position: float


def score_priors(loader: DataLoader, cfg: Config) -> Priors:
    """Score what needs no picture on the test data."""
    masks = [
        item['data_samples'][0].gt_sem_seg.data[0].numpy()
        for item in _unaugmented(cfg)
    ]
    masks = np.stack(masks)
    counts = np.stack([(masks == c).sum(0) for c in range(NUM_CLASSES)])
    common = counts.sum((1, 2)).argmax()
    guesses = (np.full_like(masks[0], common), counts.argmax(0))
    score, totals = SegmentationScore(NUM_CLASSES), [0, 0]
    for index in range(len(loader.dataset)):
        sample = loader.dataset[index]['data_samples']
        for place, guess in enumerate(guesses):
            sample.pred_sem_seg = PixelData(data=torch.from_numpy(guess)[None])
            totals[place] = totals[place] + score.measure(sample)
    return Priors(*(float(score.total(total)) for total in totals))


def _unaugmented(cfg: Config) -> DataLoader:
    """The training images through the test pipeline."""
    loader = cfg.test_dataloader.to_dict()
    prefix = cfg.train_dataloader.dataset.data_prefix.to_dict()
    loader['dataset'] = {**loader['dataset'], 'data_prefix': prefix}
    return build_dataloader(
        Config({**cfg, 'test_dataloader': loader}), 'test', 1
    )


def evaluate(
    cfg: Config, checkpoint: Path, args: argparse.Namespace
) -> tuple[SweepResult, Priors, Path]:
    """Sweep the thresholds, time real runs, and draw into a folder."""
    model = build_model(cfg, str(checkpoint))
    loader = build_dataloader(cfg, 'test')
    result = sweep(model, loader, NUM_QUANTILES)
    thresholds = result.rows['threshold'].tolist()
    sure = result.images['confidence']
    timed = representative_images(sure, len(sure), args.speed_images)
    result.add_throughput(
        measure_throughput(model, loader, thresholds, timed, [1], repeats=2)
    )
    result.meta = SweepMeta(name='MambaScope-Ti', config=CONFIG)
    priors = score_priors(loader, cfg)
    folder = Path(args.work_dir) / 'pictures'
    attach_gate(model, thresholds[len(thresholds) // 2])
    draw_scopes(model, loader.dataset, folder, evenly_by(sure, 6))
    draw_exit_gallery(
        model, loader.dataset, folder / 'exits.png', result.images, 4
    )
    save(curve_figure({result.meta.name: result}), folder / 'curve.png')
    result.to_json(Path(args.work_dir) / 'sweep.json')
    return result, priors, folder


@ending_cleanly(': the same command goes on from the last checkpoint')
def main(argv: list[str] | None = None) -> None:
    """Run the demo."""
    args = parse_args(argv)
    hint = 'Free some space or name another folder with --work-dir'
    with user_errors(), disk_errors(args.work_dir, hint):
        run(args)


def run(args: argparse.Namespace) -> None:
    """Render, train, evaluate."""
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
    cfg = demo_config(changes, work_dir / 'train')
    checkpoint = train(cfg, changes)
    stage(f'evaluating every threshold on {args.val} scenes')
    result, priors, folder = evaluate(cfg, checkpoint, args)
    stage('done\n')
    print(result.table())
    print(
        f'\nmIoU without looking at the picture: {priors.overall:.2f} '
        f'(commonest class everywhere), {priors.position:.2f} (commonest '
        f'class at each place)\n\npictures:   {folder}\nnumbers:    '
        f'{work_dir / "sweep.json"}\ncheckpoint: {checkpoint}'
    )
