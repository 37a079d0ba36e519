"""Trained models in a folder: two files that hold no code.

``config.json`` is the config that the model is built from, with the test
pipeline; ``model.safetensors`` its weights. Neither can run anything when it
is read, unlike a pickled checkpoint or a config in Python, and types that are
no parts of models are refused.
"""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

import mmscope
from mmscope.errors import UserError
from mmscope.evaluation.loading import default_device
from mmscope.models import attach_gate, is_two_stage
from mmscope.models.scoping import find_backbone
from mmscope.runtime import read_checkpoint
from mmscope.runtime.exit_gate import GATE_HOOK

from .building import build, check_classes, check_same
from .foreign_config import read_literals
from .hub import download
from .new_files import check_free, write_files
from .portable_config import META, check_content, portable, read_json, to_json

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
SHIPPED = Path(__file__).parent / 'shipped'


def from_pretrained(
    name: str | Path,
    *,
    exit_threshold: float | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Load a trained model.

    Example::

        model = mmscope.from_pretrained('demo', exit_threshold=0.8)

    Args:
        name (str | Path): A folder of :func:`save_pretrained`; a checkpoint
            of ``tools/train.py``, which holds its config; the name of a
            model that comes with the package (``shipped_names``); or
            'owner/name' on the Hugging Face Hub.
        exit_threshold (float | None): η; None for that of the config.
            Defaults to None.
        device (str | torch.device | None): None for the GPU if there is one.
            Defaults to None.

    Returns:
        nn.Module: The host's model in evaluation mode, with its config as
        ``cfg`` and what the data set said as ``dataset_meta``.

    Raises:
        UserError: If there is no such model, or its files are not right.
    """
    path = Path(name)
    if path.is_file():
        source: object = f'the config in checkpoint {path}'
        cfg, weights, meta = _read_training(path, source)
    else:
        folder = _find_folder(str(name))
        source = folder / CONFIG
        cfg, weights, meta = _read_folder(folder)
    model = build(cfg, source)
    _load(model, weights, name)
    check_classes(model, meta.get('classes') or (), source)
    if exit_threshold is not None:
        if not is_two_stage(model):
            raise UserError(
                f'exit_threshold={exit_threshold}: {name} cannot exit early'
            )
        attach_gate(model, exit_threshold)
    model.cfg, model.dataset_meta = cfg, meta
    return model.to(default_device(device))


def save_pretrained(
    model: nn.Module, folder: str | Path, cfg: Config | None = None
) -> Path:
    """Write a model for :func:`from_pretrained`.

    Args:
        model (nn.Module): A host's model.
        folder (str | Path): Made where absent; must not hold either file.
        cfg (Config | None): Complete config; None for ``model.cfg``, which
            :func:`from_pretrained` and the hosts' ``init_model`` set.
            Defaults to None.

    Returns:
        Path: The folder.

    Raises:
        UserError: If no config is known, the model is not what the config
            builds, another file is in the way, or the folder cannot be
            written to.
    """
    check_free(folder, (CONFIG, WEIGHTS))
    return write_files(folder, model_files(model, cfg))


def model_files(
    model: nn.Module, cfg: Config | None = None
) -> dict[str, bytes]:
    """Make the content of the files of a model.

    Args:
        model (nn.Module): As for :func:`save_pretrained`.
        cfg (Config | None): As for :func:`save_pretrained`. Defaults to
            None.

    Returns:
        dict[str, bytes]: By name.

    Raises:
        UserError: If no config is known, or the model is not what it builds.
    """
    from safetensors.torch import save

    cfg = cfg if cfg is not None else getattr(model, 'cfg', None)
    if cfg is None:
        raise UserError(
            f'{type(model).__name__} does not know its config: give '
            'save_pretrained(model, folder, cfg)'
        )
    kept = _with_gate(portable(cfg), model)
    meta = getattr(model, META, None) or {}
    notes = {META: meta, 'mmscope_version': mmscope.__version__}
    text = to_json(kept, **notes)
    check_classes(model, meta.get('classes') or (), 'the model')
    check_same(model, build(Config(kept), 'the config of the model'))
    # Entries may share memory, which the format refuses.
    state = {k: v.cpu().clone() for k, v in model.state_dict().items()}
    weights = save(state, metadata={'format': 'pt'})
    return {CONFIG: text.encode(), WEIGHTS: weights}


def shipped_names() -> list[str]:
    """List the models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f'*/{WEIGHTS}'))


def _with_gate(plain: dict, model: nn.Module) -> dict:
    """The config with the gate that the model has now."""
    if not is_two_stage(model):
        return plain
    backbone = find_backbone(model)
    gate = {
        'type': f'mmscope.{GATE_HOOK}',
        'exit_threshold': backbone.exit_threshold,
    }
    if backbone.gate is not None:
        gate['confidence'] = backbone.gate.kind
        gate['temperature'] = backbone.gate.temperature
    return {**plain, 'custom_hooks': [gate]}


def _find_folder(name: str) -> Path:
    """The folder that a name means."""
    for folder in (Path(name), SHIPPED / name):
        if (folder / CONFIG).is_file():
            return folder
    if Path(name).exists():
        raise UserError(
            f'{name} is no model: expected a folder with {CONFIG} and '
            f'{WEIGHTS}, as mmscope.save_pretrained writes them'
        )
    if name.count('/') == 1 and not name.startswith(('.', '/')):
        return download(name, [CONFIG, WEIGHTS])
    raise UserError(
        f'no model {name!r}: expected a folder of mmscope.save_pretrained, a '
        'checkpoint of `mmscope train`, owner/name on the Hub, or one that '
        f'comes with the package: {", ".join(shipped_names()) or "none"}'
    )


def _read_folder(folder: Path) -> tuple[Config, dict, dict]:
    """Config, weights and what the data set said."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    cfg, meta = read_json(folder / CONFIG)
    try:
        return cfg, load_file(folder / WEIGHTS), meta
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f'model {folder} cannot be read: {type(error).__name__}: {error}'
        ) from error


def _read_training(path: Path, source: object) -> tuple[Config, dict, dict]:
    """The same of a checkpoint that a training wrote."""
    checkpoint = read_checkpoint(path)
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict) or 'cfg' not in meta:
        raise UserError(
            f'checkpoint {path} does not hold its config: build the model '
            'from a config, load the weights, and save_pretrained(model, '
            'folder, cfg)'
        )
    try:
        content = read_literals(meta['cfg'])
    except ValueError as error:
        raise UserError(
            f'the config in checkpoint {path} is not of plain values '
            f'({error}), and code in it is not run: give the config itself, '
            'with --config or to save_pretrained'
        ) from error
    check_content(content, source)
    seen = dict(meta.get(META) or {})
    return Config(portable(Config(content))), checkpoint['state_dict'], seen


def _load(model: nn.Module, weights: dict, name: str | Path) -> None:
    try:
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f'the weights of {name} do not fit its own config: {error}'
        ) from error
