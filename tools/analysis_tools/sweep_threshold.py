"""Evaluate every exit threshold in ONE pass over a data set.

    python tools/analysis_tools/sweep_threshold.py CONFIG CKPT
        [--split test|val] [--out-dir DIR] [--baseline-json VIM.json]
        [--json [FILE]]

Each image is predicted after the coarse and after the fine stage; any
threshold is then arithmetic. The table compares the exits that the
confidence chooses with random ones and with the best order. DIR gets
sweep.json, sweep.csv, sweep.md and curve.png. A model without early exit
(ViM) gives one row, whose JSON is the --baseline-json of another sweep.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from mmengine.config import DictAction
from torch import nn
from torch.utils.data import DataLoader

# Hosts print while they are imported; the JSON alone goes to stdout.
with contextlib.redirect_stdout(sys.stderr):
    from mmscope.analysis.costs import DIRECTIONS
    from mmscope.apis import user_errors
    from mmscope.evaluation import (
        SweepResult,
        measure_throughput,
        representative_images,
        sweep,
    )
    from mmscope.evaluation.loading import (
        SPLITS,
        build_dataloader,
        build_model,
        open_config,
    )
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
        '--convention',
        choices=sorted(DIRECTIONS, reverse=True),
        default='paper',
        help='scan directions counted: one (paper) or both (exact)',
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
    parser.add_argument(
        '--no-images',
        action='store_true',
        help='leave the results of single images out of the JSON',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='config overrides'
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> SweepResult:
    """Load, sweep and time.

    Args:
        args (argparse.Namespace): Command line.

    Returns:
        SweepResult: With speeds and a description of the run.
    """
    cfg = open_config(args.config, args.cfg_options)
    model = build_model(cfg, args.checkpoint, args.device)
    loader = build_dataloader(cfg, args.split, args.batch_size)
    result = sweep(
        model,
        loader,
        args.num_quantiles,
        convention=args.convention,
        seed=args.seed,
        thresholds=args.thresholds,
    )
    if args.speed_images > 0:
        add_speed(result, model, loader, args)
    result.meta = {
        'name': args.name or Path(args.config).stem,
        'config': shown(args.config),
        'checkpoint': Path(args.checkpoint).name,
        'split': args.split,
        'num_images': len(result.images),
        'params': sum(p.numel() for p in model.parameters()),
        'seed': args.seed,
    }
    if args.no_images:
        result.images = []
    return result


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


def report(result: SweepResult) -> str:
    """Write what people want to read.

    Args:
        result (SweepResult): The sweep.

    Returns:
        str: Table and, for a gated model, what the confidence knows.
    """
    lines = [result.table()]
    if not result.confidence:
        return lines[0]
    for name, found in result.confidence['scores'].items():
        gain = found['gain']
        lines.append(
            f'gain of an image from refinement, {name}: mean '
            f'{number(found["mean_gain"])} points; correlation with the '
            f'confidence {number(gain["pearson"])}, by rank '
            f'{number(gain["spearman"])} (negative: it knows who gains)'
        )
    order = result.confidence['order_quality']
    lines.append(f'order of exits: {number(order)} (0: random, 1: the best)')
    lines += [
        f'with confidence={kind["kind"]!r}: correlation '
        f'{number(kind["pearson"])}, by rank {number(kind["spearman"])}, '
        f'order {number(kind["order_quality"])}'
        for kind in result.confidence['kinds']
    ]
    return '\n'.join(lines)


def number(value: float | None) -> str:
    """Format a number that may be undefined."""
    return 'undefined' if value is None else f'{value:+.3f}'


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
    print(report(result))


if __name__ == '__main__':
    main()
