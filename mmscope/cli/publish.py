"""Make a folder for others of a checkpoint: weights, config, what it is.

    python tools/model_converters/publish.py CKPT FOLDER
        [--config CONFIG] [--exit-threshold ETA|FILE.json]

Optimiser, logs and training data of the checkpoint are left out. Where the
training kept an average of the weights, it is the average that the checkpoint
scores by, and that is published. ``mmscope.from_pretrained(FOLDER)`` loads
it.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from torch import nn

from mmscope.cli.arguments import add_exit_threshold, tool_parser
from mmscope.cli.gated_models import load_model, set_gate
from mmscope.errors import UserError, user_errors
from mmscope.evaluation.loading import open_config
from mmscope.inference import from_pretrained
from mmscope.inference.new_files import check_free, write_files
from mmscope.inference.pretrained import CONFIG, WEIGHTS, model_files
from mmscope.runtime import ending_cleanly
from mmscope.visualization.image_files import class_meta

METAFILE = 'metafile.yml'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('checkpoint', help='of tools/train.py')
    parser.add_argument('folder', help='is made; must not hold a model yet')
    parser.add_argument(
        '--config', help='where the checkpoint does not hold its own'
    )
    add_exit_threshold(parser)
    parser.set_defaults(device='cpu')
    return parser.parse_args(argv)


def load(args: argparse.Namespace) -> nn.Module:
    """Load the model with the gate that it shall have.

    Raises:
        UserError: If config, checkpoint or threshold are at fault.
    """
    if args.config:
        cfg = open_config(args.config)
        model = load_model(cfg, args)
        model.cfg, model.dataset_meta = cfg, known_meta(cfg, args.checkpoint)
        return model
    model = from_pretrained(args.checkpoint, device=args.device)
    set_gate(model, args.exit_threshold)
    return model


def known_meta(cfg: Config, checkpoint: str) -> dict[str, Any]:
    """Names of the classes, where checkpoint or config says them."""
    try:
        return class_meta(cfg, checkpoint)
    except UserError as error:
        print(f'{error}. The model is published without names of classes')
        return {}


def describe(model: nn.Module, name: str, digest: str) -> bytes:
    """Say what a model is, as ``metafile.yml`` does beside its weights."""
    entry = {
        'Name': name,
        'Metadata': {'Parameters': sum(p.numel() for p in model.parameters())},
        'Weights': WEIGHTS,
        'SHA256': digest,
    }
    text = yaml.safe_dump({'Models': [entry]}, sort_keys=False)
    return text.encode()


@ending_cleanly()
def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with user_errors(OSError, KeyError, TypeError):
        check_free(args.folder, (CONFIG, WEIGHTS, METAFILE))
        model = load(args)
        files = model_files(model)
        digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
        # '.' has no name of its own.
        name = Path(args.folder).resolve().name
        files[METAFILE] = describe(model, name, digest)
        folder = write_files(args.folder, files)
    size = len(files[WEIGHTS])
    print(f'{folder}: {size:,} bytes, sha256 {digest}')
