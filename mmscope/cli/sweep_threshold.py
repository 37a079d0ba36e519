"""Evaluate every exit threshold in ONE pass over a data set.

    python tools/analysis_tools/sweep_threshold.py CONFIG CKPT
        [--split test|val] [--out-dir DIR] [--thresholds 0.5 0.65]
        [--json [FILE]]
    python tools/analysis_tools/sweep_threshold.py CONFIG CKPT
        --vary score_metric=max_norm,detail,random refine_ratio=0.5,0.8
    python tools/analysis_tools/sweep_threshold.py CONFIG CKPT
        --choose-on val --split test (--target-flops G | --max-drop POINTS)
        [--calibrate] [--save-threshold FILE]

Each image is predicted after the coarse and after the fine stage; any
threshold is then arithmetic. The table compares the exits that the
confidence chooses with random ones and with the best order. DIR gets
sweep.json, sweep.csv, sweep.md and curve.png. A model without early exit
(ViM) gives one row; compare_runs.py --picture draws it beside others.

--vary evaluates the same weights with other settings of the backbone, each
value with each, in the same pass over the data: what importance is worth at
test, or a share of the regions that nobody trained with. DIR/variants gets a
sweep of each.

With a target, a threshold is chosen on one split, reported on the other and
saved for tools/test.py --exit-threshold FILE.

--calibrate first fits one temperature to the coarse predictions on the split
of --choose-on, by their likelihood; every confidence is that of logits over
the temperature, which the saved file holds too.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile

import msgspec
import torch
from mmengine.config import Config
from torch import nn
from torch.utils.data import DataLoader

# Hosts print while they are imported; the JSON alone goes to stdout.
with contextlib.redirect_stdout(sys.stderr):
    from mmscope.cli.sweep_arguments import parse_sweep_args
    from mmscope.cli.sweep_choice import choose, describe, score_split
    from mmscope.errors import UserError, user_errors
    from mmscope.evaluation import (
        SweepResult,
        calibrate,
        measure_throughput,
        representative_images,
    )
    from mmscope.evaluation.endpoint_images import EndpointImages
    from mmscope.evaluation.loading import (
        build_dataloader,
        build_model,
        open_config,
    )
    from mmscope.evaluation.summary import summary
    from mmscope.evaluation.sweep import check_thresholds, sweep_images
    from mmscope.evaluation.sweep_meta import SweepMeta
    from mmscope.evaluation.tasks import check_metrics
    from mmscope.evaluation.variants import Variant, combinations
    from mmscope.inference.progress import watched
    from mmscope.models import is_two_stage
    from mmscope.runtime import disk_errors, ending_cleanly
    from mmscope.visualization import curve_figure, save
    from mmscope.whole_files import write_whole


def run(args: argparse.Namespace) -> SweepResult:
    """Load, calibrate, score, sweep, choose and time."""
    # Importances by chance draw from it.
    torch.manual_seed(args.seed)
    cfg = open_config(args.config, args.cfg_options)
    model = build_model(cfg, args.checkpoint, args.device)
    check_first(args, model)
    check_metrics(cfg, model)
    wanted = check_thresholds(model, args.thresholds)
    variants = [Variant(), *combinations(args.vary)]
    # All before anything is scored: a split may be missing or damaged.
    loaders = build_loaders(args, cfg)
    fitted, names = None, []
    if args.calibrate:
        batches = watched(loaders[args.choose_on], 'calibrating')
        fitted, names = calibrate(model, batches)
    loader = loaders[args.split]
    scored = score_split(args, model, loader, variants)
    meta = describe(args, model, scored[0])
    if fitted is not None:
        same = names == scored[0].table['name'].tolist()
        meta.calibration = replace(
            fitted, split=args.choose_on, same_images=same
        )
    result = sweep_all(args, scored, variants, wanted, meta)
    # It may have taken hours: kept, whatever happens afterwards.
    keep(args, result)
    if args.chooses:
        meta.chosen = choose(args, model, loaders, scored[0])
        wanted.append(meta.chosen.exit_threshold)
        result = sweep_all(args, scored, variants, wanted, meta)
    if args.speed_images > 0:
        add_speed(result, model, loader, args)
    return result


def check_first(args: argparse.Namespace, model: nn.Module) -> None:
    """Find out before the scoring what would stop what comes after it."""
    if args.chooses and not is_two_stage(model):
        raise UserError(
            f'{args.config} has no early exit, so there is no threshold to '
            'choose: leave out --target-flops and --max-drop'
        )
    for option in 'save_threshold', 'json':
        file = Path(getattr(args, option) or '-')
        if file.is_dir():
            raise UserError(
                f'--{option.replace("_", "-")} {file} is a folder: name a '
                'file in it, such as eta.json'
            )
        if str(file) != '-' and not file.exists():
            check_writable(file.parent)
    if args.out_dir:
        check_writable(Path(args.out_dir))


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to."""
    with disk_errors(folder, 'Name another place, or make room.'):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


def build_loaders(
    args: argparse.Namespace, cfg: Config
) -> dict[str, DataLoader]:
    """Build the loader of each split that is asked for, once."""
    splits = {args.split}
    if args.chooses or args.calibrate:
        splits.add(args.choose_on)
    return {
        split: build_dataloader(cfg, split, args.batch_size)
        for split in sorted(splits)
    }


def sweep_all(
    args: argparse.Namespace,
    scored: Sequence[EndpointImages],
    variants: Sequence[Variant],
    wanted: Sequence[float],
    meta: SweepMeta,
) -> SweepResult:
    """Sweep the model, and write its variants down beside it."""
    options = (args.num_quantiles, args.convention, args.num_draws, args.seed)
    result, *others = (
        replace(sweep_images(images, *options, wanted), meta=meta)
        for images in scored
    )
    for variant, other in zip(variants[1:], others, strict=True):
        # What was chosen holds for the model as it is.
        other.meta = msgspec.structs.replace(
            meta, name=variant.name, chosen=None
        )
        result.variants[variant.name] = other.rows
        if args.out_dir:
            file = variant.name.replace(', ', ',') + '.json'
            other = for_file(args, other)
            other.to_json(Path(args.out_dir) / 'variants' / file)
    return result


def for_file(args: argparse.Namespace, result: SweepResult) -> SweepResult:
    """Leave out single images where that is asked for."""
    if not args.no_images:
        return result
    return replace(result, images=result.images[:0])


def add_speed(
    result: SweepResult,
    model: nn.Module,
    loader: DataLoader,
    args: argparse.Namespace,
) -> None:
    """Time real gated runs at the thresholds of the curve."""
    confidence = result.images.get('confidence')
    chosen = representative_images(
        confidence, len(result.images), args.speed_images
    )
    result.add_throughput(
        measure_throughput(
            model,
            loader,
            result.rows['threshold'],
            chosen,
            repeats=args.repeats,
        )
    )


def keep(args: argparse.Namespace, result: SweepResult) -> None:
    """Write JSON, CSV and table."""
    result = for_file(args, result)
    if args.out_dir:
        folder = Path(args.out_dir)
        result.to_json(folder / 'sweep.json')
        write_whole(folder / 'sweep.csv', result.rows.to_csv(index=False))
        write_whole(folder / 'sweep.md', result.table() + '\n')
    if args.json and args.json != '-':
        result.to_json(args.json)


@ending_cleanly()
def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_sweep_args(__doc__, argv)
    known = (ValueError, KeyError, TypeError, RuntimeError, OSError)
    disk = disk_errors(args.out_dir or '.', 'Name another place')
    with contextlib.redirect_stdout(sys.stderr), user_errors(*known), disk:
        result = run(args)
        keep(args, result)
        if args.out_dir:
            file = Path(args.out_dir) / 'curve.png'
            save(curve_figure({result.meta.name: result}), file)
    result = for_file(args, result)
    print(result.to_json() if args.json == '-' else summary(result))
