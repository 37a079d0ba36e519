"""Evaluate every exit threshold in ONE pass over a data set.

    python tools/analysis_tools/sweep_threshold.py CONFIG CKPT
        [--split test|val] [--out-dir DIR] [--baseline-json VIM.json]
        [--thresholds 0.5 0.65] [--json [FILE]]
    python tools/analysis_tools/sweep_threshold.py CONFIG CKPT
        --vary score_metric=max_norm,detail,random refine_ratio=0.5,0.8
    python tools/analysis_tools/sweep_threshold.py CONFIG CKPT
        --choose-on val --split test (--target-flops G | --max-drop POINTS)
        [--calibrate] [--save-threshold FILE]

Each image is predicted after the coarse and after the fine stage; any
threshold is then arithmetic. The table compares the exits that the
confidence chooses with random ones and with the best order. DIR gets
sweep.json, sweep.csv, sweep.md and curve.png. A model without early exit
(ViM) gives one row, whose JSON is the --baseline-json of another sweep.

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
from dataclasses import asdict
from pathlib import Path

from mmengine.config import Config, DictAction
from torch import nn
from torch.utils.data import DataLoader

# Hosts print while they are imported; the JSON alone goes to stdout.
with contextlib.redirect_stdout(sys.stderr):
    from mmscope.analysis.costs import DIRECTIONS
    from mmscope.errors import user_errors
    from mmscope.evaluation import (
        SweepResult,
        calibrate,
        measure_throughput,
        representative_images,
    )
    from mmscope.evaluation.curves import NUM_DRAWS
    from mmscope.evaluation.endpoint_images import BothEnds
    from mmscope.evaluation.exit_endpoints import score_variants
    from mmscope.evaluation.loading import (
        SPLITS,
        build_dataloader,
        build_model,
        open_config,
    )
    from mmscope.evaluation.summary import summary
    from mmscope.evaluation.sweep import check_thresholds, sweep_ends
    from mmscope.evaluation.tasks import default_score
    from mmscope.evaluation.threshold_choice import (
        choose_threshold,
        expected_row,
    )
    from mmscope.evaluation.variants import Variant, combinations
    from mmscope.runtime import ExitChoice
    from mmscope.visualization import curve_figure, save


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        default='test',
        help='data to evaluate: test_dataloader (default) or val_dataloader',
    )
    parser.add_argument(
        '--num-quantiles',
        type=int,
        default=9,
        metavar='N',
        help='thresholds between all exit and nobody (default: 9)',
    )
    parser.add_argument(
        '--thresholds',
        type=float,
        nargs='+',
        default=[],
        metavar='ETA',
        help='thresholds to evaluate beside the quantiles, such as 0.5 0.55',
    )
    parser.add_argument(
        '--vary',
        nargs='+',
        default=[],
        metavar='KEY=VALUE,VALUE',
        help='settings of the backbone to evaluate the same weights with',
    )
    parser.add_argument(
        '--convention',
        choices=sorted(DIRECTIONS, reverse=True),
        default='paper',
        help='scan directions counted: one (paper) or both (exact)',
    )
    parser.add_argument(
        '--num-draws',
        type=int,
        default=NUM_DRAWS,
        metavar='N',
        help='random exits to compare each threshold with (default: '
        f'{NUM_DRAWS}); a draw takes 20 ms on COCO val, else next to nothing',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the random exits'
    )
    parser.add_argument(
        '--batch-size', type=int, help="images a batch (default: config's)"
    )
    parser.add_argument(
        '--speed-images',
        type=int,
        default=16,
        metavar='N',
        help='images timed in real gated runs; 0 times nothing (default: 16)',
    )
    parser.add_argument(
        '--repeats',
        type=int,
        default=3,
        help='timed repeats, of which the median counts (default: 3)',
    )
    parser.add_argument('--device', help='such as cpu or cuda:0')
    parser.add_argument(
        '--name', help='name of the model in picture and table'
    )
    parser.add_argument('--out-dir', help='folder for JSON, CSV and picture')
    parser.add_argument(
        '--baseline-json',
        nargs='+',
        default=[],
        metavar='FILE',
        help='sweeps to draw beside this one',
    )
    parser.add_argument(
        '--json',
        nargs='?',
        const='-',
        metavar='FILE',
        help='write JSON to FILE, or to stdout instead of the table',
    )
    add_choice_arguments(parser)
    parser.add_argument(
        '--no-images',
        action='store_true',
        help='leave the results of single images out of the JSON',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='config overrides'
    )
    args = parser.parse_args(argv)
    chooses = args.target_flops is not None or args.max_drop is not None
    for_choice = args.save_threshold or (args.choose_on and not args.calibrate)
    if not chooses and for_choice:
        parser.error(
            '--choose-on and --save-threshold need a target: '
            '--target-flops G or --max-drop POINTS'
        )
    return args


def add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a threshold."""
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        '--target-flops',
        type=float,
        metavar='G',
        help='choose the most accurate threshold of at most that many mean '
        'GMACs an image',
    )
    target.add_argument(
        '--max-drop',
        type=float,
        metavar='POINTS',
        help='choose the cheapest threshold whose score is at most that far '
        'below that of nobody exiting',
    )
    parser.add_argument(
        '--choose-on',
        choices=SPLITS,
        help='data to choose the threshold, and to fit the temperature, on '
        '(default: val)',
    )
    parser.add_argument(
        '--calibrate',
        action='store_true',
        help='fit a temperature to the coarse predictions before',
    )
    parser.add_argument(
        '--save-threshold',
        metavar='FILE',
        help='write the chosen threshold as JSON',
    )


def run(args: argparse.Namespace) -> SweepResult:
    """Load, sweep and time.

    Args:
        args (argparse.Namespace): Command line.

    Returns:
        SweepResult: With speeds and a description of the run.
    """
    cfg = open_config(args.config, args.cfg_options)
    model = build_model(cfg, args.checkpoint, args.device)
    wanted = check_thresholds(model, args.thresholds)
    variants = [Variant(), *combinations(args.vary)]
    fitted = None
    if args.calibrate:
        split = args.choose_on or 'val'
        fitted = calibrate(
            model, build_dataloader(cfg, split, args.batch_size)
        )
    loader, scored = score_split(args, cfg, model, args.split, variants)
    ends = scored[0]
    choice = None
    if args.target_flops is not None or args.max_drop is not None:
        seen = ends
        if (args.choose_on or 'val') != args.split:
            _, (seen,) = score_split(args, cfg, model, args.choose_on or 'val')
        choice = choose(args, model, seen)
        wanted.append(choice.exit_threshold)
    result, *others = (
        sweep_ends(
            found,
            args.num_quantiles,
            args.convention,
            args.num_draws,
            args.seed,
            thresholds=wanted,
        )
        for found in scored
    )
    if args.speed_images > 0:
        add_speed(result, model, loader, args)
    result.meta = describe(args, model, len(ends.names))
    if fitted is not None:
        result.meta['calibration'] = {
            **fitted.to_meta(),
            'split': split,
            'same_images': fitted.names == ends.names,
        }
    if choice is not None:
        result.meta['chosen'] = {
            **asdict(choice),
            'reported': expected_row(ends, choice.exit_threshold),
            'same_images': seen.names == ends.names,
        }
    for variant, other in zip(variants[1:], others, strict=True):
        result.variants.append({'settings': variant.name, 'rows': other.rows})
        other.meta = {**result.meta, 'name': variant.name}
        if args.out_dir:
            file = variant.name.replace(', ', ',') + '.json'
            other.to_json(Path(args.out_dir) / 'variants' / file)
    if args.no_images:
        result.images = []
    return result


def score_split(
    args: argparse.Namespace,
    cfg: Config,
    model: nn.Module,
    split: str,
    variants: Sequence[Variant] = (Variant(),),
) -> tuple[DataLoader, list[BothEnds]]:
    """Score the images of a split at both exits.

    Args:
        args (argparse.Namespace): Command line.
        cfg (Config): Its config.
        model (nn.Module): The swept model.
        split (str): 'val' or 'test'.
        variants (Sequence[Variant]): Settings. Defaults to the model's own.

    Returns:
        tuple[DataLoader, list[BothEnds]]: Loader, and images for each
        variant.
    """
    loader = build_dataloader(cfg, split, args.batch_size)
    # Of this loader: a detector's score knows the objects of its images.
    score = default_score(model, loader)
    scored = score_variants(model, loader, score, variants, args.convention)
    return loader, scored


def describe(
    args: argparse.Namespace, model: nn.Module, num_images: int
) -> dict:
    """Say what was swept, without folders of this machine."""
    return {
        'name': args.name or Path(args.config).stem,
        'config': shown(args.config),
        'checkpoint': Path(args.checkpoint).name,
        'split': args.split,
        'num_images': num_images,
        'params': sum(p.numel() for p in model.parameters()),
        'seed': args.seed,
    }


def choose(
    args: argparse.Namespace,
    model: nn.Module,
    ends: BothEnds,
) -> ExitChoice:
    """Choose a threshold, and save it where that is asked for.

    Args:
        args (argparse.Namespace): Command line with one target.
        model (nn.Module): The swept model.
        ends (BothEnds): Images of the split to choose on.

    Returns:
        ExitChoice: With what it promises there.
    """
    threshold = choose_threshold(ends, args.target_flops, args.max_drop)
    by_flops = args.target_flops is not None
    choice = ExitChoice(
        exit_threshold=threshold,
        confidence=model.backbone.gate.kind,
        target='target_flops' if by_flops else 'max_drop',
        limit=args.target_flops if by_flops else args.max_drop,
        split=args.choose_on or 'val',
        expected=expected_row(ends, threshold),
        score=ends.scored.name,
        convention=args.convention,
        num_images=len(ends.names),
        config=shown(args.config),
        checkpoint=Path(args.checkpoint).name,
        temperature=model.backbone.gate.temperature,
    )
    if args.save_threshold:
        choice.write(args.save_threshold)
    return choice


def shown(path: str) -> str:
    """Shorten a path for a report: no folders of this machine."""
    full = Path(path).resolve()
    inside = full.is_relative_to(Path.cwd())
    return str(full.relative_to(Path.cwd())) if inside else full.name


def add_speed(
    result: SweepResult,
    model: nn.Module,
    loader: DataLoader,
    args: argparse.Namespace,
) -> None:
    """Time real gated runs at the thresholds of the curve.

    Args:
        result (SweepResult): Gets the speeds.
        model (nn.Module): The swept model.
        loader (DataLoader): The swept data.
        args (argparse.Namespace): Command line.
    """
    confidence = None
    if len(result.rows) > 1:
        confidence = [image['confidence'] for image in result.images]
    result.add_throughput(
        measure_throughput(
            model,
            loader,
            [row['threshold'] for row in result.rows],
            repeats=args.repeats,
            indices=representative_images(
                confidence, len(result.images), args.speed_images
            ),
        )
    )


def write(
    result: SweepResult, folder: str | Path, baselines: list[dict]
) -> None:
    """Write JSON, CSV, table and picture.

    Args:
        result (SweepResult): The sweep.
        folder (str | Path): Made if missing.
        baselines (list[dict]): Sweeps to draw beside it.
    """
    folder = Path(folder)
    result.to_json(folder / 'sweep.json')
    result.to_csv(folder / 'sweep.csv')
    (folder / 'sweep.md').write_text(result.table() + '\n')
    results = [result.to_dict(), *baselines]
    names = [entry['meta'].get('name', 'model') for entry in results]
    save(curve_figure(results, names), folder / 'curve.png')


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):
        with user_errors(ValueError, KeyError, TypeError, RuntimeError):
            baselines = [
                SweepResult.read(path).to_dict() for path in args.baseline_json
            ]
            result = run(args)
            if args.out_dir:
                write(result, args.out_dir, baselines)
    if args.json == '-':
        print(result.to_json())
        return
    if args.json:
        result.to_json(args.json)
    print(summary(result))
