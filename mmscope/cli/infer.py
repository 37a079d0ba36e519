"""Predict all images of a folder or a list, into a Parquet table.

    mmscope infer MODEL DIR_OR_LIST --out results.parquet
    mmscope infer CONFIG CKPT DIR_OR_LIST --out results.parquet
        [--threshold ETA|FILE.json] [--coarse-batch 32] [--fine-batch 32]

MODEL is what ``mmscope.from_pretrained`` takes.

One row an image: classes with names and scores, boxes and masks, or a label
map as PNG; who exited, how sure the gate was, and what the image cost. The
same command goes on where an earlier one was stopped or killed.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import nn

from mmscope.cli.arguments import (
    add_cfg_options,
    add_exit_threshold,
    device,
    positive,
    tool_parser,
    whole,
)
from mmscope.cli.gated_models import load_model, set_gate
from mmscope.errors import UserError, user_errors
from mmscope.evaluation.loading import open_config
from mmscope.inference import from_pretrained
from mmscope.inference.engine import TwoStageEngine
from mmscope.inference.image_names import folder_of
from mmscope.inference.on_ray import rows_on_ray
from mmscope.inference.rows import columns_of, row_kind, row_of
from mmscope.inference.to_parquet import (
    MakeRow,
    predict_to_parquet,
    rows_of_engine,
)
from mmscope.models import is_two_stage
from mmscope.runtime import disk_errors, ending_cleanly
from mmscope.runtime.configs import find_config
from mmscope.visualization.image_files import class_meta, loading_pipeline

# One core is the model's.
WORKERS = max(min((os.cpu_count() or 1) - 1, 8), 1)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    add = parser.add_argument
    text = 'name of a published model, or a config and a checkpoint'
    add('model', nargs='+', metavar='MODEL', help=text)
    text = 'folder of images, or text file with one path a line'
    add('images', metavar='DIR_OR_LIST', help=text)
    text = 'folder of Parquet files, read as one table'
    add('--out', required=True, metavar='results.parquet', help=text)
    add_exit_threshold(parser, '--threshold')
    text = 'images of a coarse batch (default: 32)'
    add('--coarse-batch', type=positive, default=32, metavar='N', help=text)
    text = 'images of a fine batch, and of one of the heads (default: 32)'
    add('--fine-batch', type=positive, default=32, metavar='N', help=text)
    text = f'processes that decode images (default here: {WORKERS})'
    add('--workers', type=whole, default=WORKERS, metavar='N', help=text)
    text = 'rows of a file; a kill costs at most these (default: 1000)'
    add('--rows-per-file', type=positive, default=1000, metavar='N', help=text)
    text = 'run on a Ray cluster (RAY_ADDRESS) or here, in so many actors'
    add('--ray', type=positive, metavar='ACTORS', help=text)
    text = 'GPUs of an actor, each (default: 0)'
    add('--ray-gpus', type=whole, default=0, metavar='N', help=text)
    add('--device', help='such as cpu or cuda:0')
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if len(args.model) > 2:
        parser.error(
            f'expected MODEL, or CONFIG CKPT, before {args.images}, got '
            f'{len(args.model)} words: {" ".join(args.model)}'
        )
    if args.ray_gpus and not args.ray:
        parser.error('--ray-gpus are GPUs of an actor: add --ray ACTORS')
    if args.device and not args.ray:
        # With Ray it is a device of the actors' machines.
        try:
            device(args.device)
        except argparse.ArgumentTypeError as error:
            parser.error(f'argument --device: {error}')
    if len(args.model) == 1 and args.cfg_options:
        parser.error('a published model has its config: no --cfg-options')
    return args


@ending_cleanly(': the same command goes on')
def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    folder = folder_of(args.images).absolute()
    # Actors build models of their own, on their GPUs.
    place = {'device': 'cpu'} if args.ray else {}
    built = build(argparse.Namespace(**{**vars(args), **place}))
    if is_two_stage(built.model) and built.threshold is None:
        print('no threshold is given, so no image exits: see --threshold')
    if args.ray:
        # Perhaps on other machines.
        args.model = absolute(args.model)
        predict = partial(
            rows_on_ray,
            partial(build_engine, args),
            folder,
            actors=args.ray,
            coarse_batch=args.coarse_batch,
            cpus=args.workers + 1,
            gpus=args.ray_gpus,
        )
    else:
        predict = partial(rows_of_engine, *open_engine(built, args), folder)
    disk = disk_errors(args.out, 'The same command goes on')
    with user_errors(OSError), disk:
        progress = predict_to_parquet(
            predict,
            args.images,
            args.out,
            columns_of(built.rows),
            {**result_settings(built), 'folder': str(folder.resolve())},
            args.rows_per_file,
        )
        print(progress.sentence())
        if progress.failed == progress.images:
            raise UserError(
                f'no image could be read; {args.out} says why of each'
            )


def absolute(model: list[str]) -> list[str]:
    """Name the model as it is found from any folder."""
    *config, file = model
    if config:
        config = [str(find_config(config[0]).absolute())]
    return [
        *config,
        str(Path(file).absolute()) if Path(file).exists() else file,
    ]


class Built(NamedTuple):
    """What the command line names.

    Attributes:
        cfg (Config): Of ``open_config``.
        model (nn.Module): In evaluation mode, at its exit threshold.
        classes (list[str]): Names by label.
    """

    cfg: Config
    model: nn.Module
    classes: list[str]

    @property
    def rows(self) -> str:
        """Kind of rows that its results fill."""
        return row_kind(self.cfg.default_scope, self.model)

    @property
    def threshold(self) -> float | None:
        """Exit threshold, None where nobody exits."""
        if not is_two_stage(self.model):
            return None
        return self.model.backbone.exit_threshold


def build(args: argparse.Namespace) -> Built:
    """Build the model of the command line."""
    # Wrong names in the config surface while the model is built.
    with user_errors(OSError, KeyError, TypeError):
        if len(args.model) == 1:
            model = from_pretrained(args.model[0], device=args.device)
            set_gate(model, args.exit_threshold)
            if not model.dataset_meta.get('classes'):
                raise UserError(
                    f'{args.model[0]} does not name its classes: publish it '
                    'again with a config whose test data set has '
                    'metainfo=dict(classes=(...))'
                )
            return Built(model.cfg, model, [*model.dataset_meta['classes']])
        args.config, args.checkpoint = args.model
        cfg = open_config(args.config, args.cfg_options)
        model = load_model(cfg, args)
        return Built(
            cfg, model, [*class_meta(cfg, args.checkpoint)['classes']]
        )


def open_engine(
    built: Built, args: argparse.Namespace
) -> tuple[TwoStageEngine, MakeRow]:
    """Make the engine of the command line, and what makes rows of results."""
    cfg, model, classes = built
    engine = TwoStageEngine(
        model,
        built.threshold,
        args.coarse_batch,
        args.fine_batch,
        pipeline=loading_pipeline(cfg),
        num_workers=args.workers,
    )
    return engine, partial(row_of, scope=built.rows, classes=classes)


def build_engine(
    args: argparse.Namespace,
) -> tuple[TwoStageEngine, MakeRow]:
    """Build a model and its engine, in a process of a cluster."""
    return open_engine(build(args), args)


def result_settings(built: Built) -> dict[str, Any]:
    """Describe what decides the results; batch sizes are no part of it."""
    steps = [built.cfg.model, loading_pipeline(built.cfg)]
    found = {
        'config': _digest(repr(steps).encode()),
        'weights': _weights(built.model),
        'classes': built.classes,
    }
    if is_two_stage(built.model):
        backbone = built.model.backbone
        found['threshold'] = built.threshold
        if backbone.gate is not None:
            found['confidence'] = backbone.gate.kind
            found['temperature'] = backbone.gate.temperature
    return found


def _digest(*contents: Any) -> str:
    found = sha256()
    for content in contents:
        found.update(content)
    return found.hexdigest()[:16]


def _weights(model: nn.Module) -> str:
    """A tensor at a time, in the place where it lies."""
    values = model.state_dict().values()
    return _digest(
        *(v.cpu().reshape(-1).view(torch.uint8).numpy() for v in values)
    )
