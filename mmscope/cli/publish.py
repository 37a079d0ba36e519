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

from mmscope.cli.arguments import threshold_or_file
from mmscope.cli.show_scope import load_model
from mmscope.errors import UserError, user_errors
from mmscope.evaluation.loading import open_config
from mmscope.inference import from_pretrained, save_pretrained
from mmscope.inference.pretrained import WEIGHTS
from mmscope.models import attach_gate, is_two_stage
from mmscope.runtime import ExitChoice
from mmscope.visualization.image_files import class_meta


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('checkpoint', help='of tools/train.py')
    parser.add_argument('folder', help='is made; must not hold a model')
    parser.add_argument(
        '--config', help='where the checkpoint does not hold its own'
    )
    parser.add_argument(
        '--exit-threshold',
        type=threshold_or_file,
        metavar='ETA',
        help='a number >= 0, or the file of sweep_threshold.py '
        "--save-threshold (default: the config's)",
    )
    parser.set_defaults(device='cpu')
    return parser.parse_args(argv)


def load(args: argparse.Namespace) -> nn.Module:
    """Load the model with the gate that it shall have.

    Args:
        args (argparse.Namespace): Of :func:`parse_args`.

    Returns:
        nn.Module: The host's model.

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


def set_gate(model: nn.Module, chosen: float | ExitChoice | None) -> None:
    """Give a model's gate another threshold.

    Args:
        model (nn.Module): The host's model.
        chosen (float | ExitChoice | None): η, or what a file says of it;
            None leaves the gate as it is.

    Raises:
        UserError: If a model that cannot exit is given one.
    """
    if chosen is None:
        return
    if not is_two_stage(model):
        raise UserError(
            f'a threshold was given, but {type(model).__name__} has a '
            f'{type(model.backbone).__name__}, which cannot exit early'
        )
    if isinstance(chosen, ExitChoice):
        attach_gate(
            model,
            chosen.exit_threshold,
            chosen.confidence,
            chosen.temperature,
        )
    else:
        attach_gate(model, chosen)


def describe(model: nn.Module, folder: Path) -> str:
    """Write ``metafile.yml`` beside the weights.

    Args:
        model (nn.Module): What the folder holds.
        folder (Path): Of ``save_pretrained``.

    Returns:
        str: SHA-256 of the weights.
    """
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    entry = {
        'Name': folder.name,
        'Metadata': {'Parameters': sum(p.numel() for p in model.parameters())},
        'Weights': WEIGHTS,
        'SHA256': digest,
    }
    text = yaml.safe_dump({'Models': [entry]}, sort_keys=False)
    (folder / 'metafile.yml').write_text(text)
    return digest


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with user_errors(OSError, KeyError, TypeError):
        model = load(args)
        folder = save_pretrained(model, args.folder)
    digest = describe(model, folder)
    size = (folder / WEIGHTS).stat().st_size
    print(f'{folder}: {size:,} bytes, sha256 {digest}')
