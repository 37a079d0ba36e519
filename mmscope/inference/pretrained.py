"""Trained models in a folder: two files that hold no code.

``config.json`` is the config that the model is built from, with the test
pipeline; ``model.safetensors`` its weights. Neither can run anything when it
is read, unlike a pickled checkpoint or a config in Python, and types that are
no parts of models are refused.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

import mmscope
from mmscope.errors import UserError
from mmscope.evaluation.loading import (
    build_model,
    default_device,
    enter_host,
)
from mmscope.models import attach_gate, is_two_stage
from mmscope.models.scoping import find_backbone
from mmscope.runtime import drop_pretrained, gate_hooks, read_checkpoint
from mmscope.runtime.exit_gate import GATE_HOOK

from .foreign_config import check_types, read_literals
from .hub import download

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
# Key of what was a tuple.
TUPLE = '__tuple__'
SHIPPED = Path(__file__).parent / 'shipped'
# What of a config a model needs to predict.
KEPT = ('default_scope', 'model', 'custom_hooks', 'test_dataloader')


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
        cfg, weights, meta = _read_training(path)
    else:
        cfg, weights, meta = _read_folder(_find_folder(str(name)))
    enter_host(cfg)
    model = build_model(cfg, device='cpu')
    _load(model, weights, name)
    if is_two_stage(model):
        attach_gate(model, _threshold(cfg, exit_threshold))
    elif exit_threshold is not None:
        raise UserError(
            f'exit_threshold={exit_threshold}: {name} cannot exit early'
        )
    model.cfg, model.dataset_meta = cfg, meta
    return model.to(default_device(device))


def save_pretrained(
    model: nn.Module, folder: str | Path, cfg: Config | None = None
) -> Path:
    """Write a model for :func:`from_pretrained`.

    Args:
        model (nn.Module): A host's model.
        folder (str | Path): Made where absent; must not hold another model.
        cfg (Config | None): Complete config; None for ``model.cfg``, which
            :func:`from_pretrained` and the hosts' ``init_model`` set.
            Defaults to None.

    Returns:
        Path: The folder.

    Raises:
        UserError: If no config is known, or another model is in the way.
    """
    from safetensors.torch import save_file

    cfg = cfg if cfg is not None else getattr(model, 'cfg', None)
    if cfg is None:
        raise UserError(
            f'{type(model).__name__} does not know its config: give '
            'save_pretrained(model, folder, cfg)'
        )
    folder = Path(folder)
    content = {
        **_marked(_with_gate(portable(cfg), model)),
        'dataset_meta': getattr(model, 'dataset_meta', None) or {},
        'mmscope_version': mmscope.__version__,
    }
    text = json.dumps(content, indent=1) + '\n'
    if (folder / WEIGHTS).exists():
        raise UserError(
            f'{folder} holds a model already: choose another folder, '
            'nothing was written'
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Entries may share memory, which the format refuses.
    state = {k: v.cpu().clone() for k, v in model.state_dict().items()}
    (folder / CONFIG).write_text(text)
    # Renamed when complete: an interrupted call leaves no half model.
    draft = folder / f'.{WEIGHTS}.part'
    save_file(state, draft, metadata={'format': 'pt'})
    draft.rename(folder / WEIGHTS)
    return folder


def shipped_names() -> list[str]:
    """List the models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f'*/{WEIGHTS}'))


def portable(cfg: Config) -> dict:
    """Take what a model needs to predict out of a config.

    Args:
        cfg (Config): Complete config, also one in the style of Python.

    Returns:
        dict: Plain values. Classes became their names; training data,
        addresses of pretrained weights and folders are left out.
    """
    plain = _plain(cfg.to_dict() if hasattr(cfg, 'to_dict') else dict(cfg))
    kept = {key: plain[key] for key in KEPT if plain.get(key) is not None}
    kept['custom_hooks'] = gate_hooks(kept.get('custom_hooks'))
    loader = kept.get('test_dataloader')
    if loader:
        pipeline = loader['dataset'].get('pipeline', [])
        kept['test_dataloader'] = {'dataset': {'pipeline': pipeline}}
    found = Config(kept)
    drop_pretrained(found)
    return found.to_dict()


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


def _plain(value: object) -> object:
    """Lists, tuples, dicts, numbers and texts alone."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        kind = tuple if isinstance(value, tuple) else list
        return kind(_plain(entry) for entry in value)
    if isinstance(value, type):
        return f'{value.__module__}.{value.__qualname__}'
    return value


def _marked(value: object) -> object:
    """Say what is a tuple, which JSON has not and hosts ask for."""
    if isinstance(value, dict):
        return {key: _marked(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        entries = [_marked(entry) for entry in value]
        return {TUPLE: entries} if isinstance(value, tuple) else entries
    return value


def _unmarked(found: dict) -> object:
    return tuple(found[TUPLE]) if TUPLE in found else found


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
        'checkpoint of tools/train.py, owner/name on the Hub, or one that '
        f'comes with the package: {", ".join(shipped_names()) or "none"}'
    )


def _read_folder(folder: Path) -> tuple[Config, dict, dict]:
    """Config, weights and what the data set said."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        text = (folder / CONFIG).read_text()
        content = json.loads(text, object_hook=_unmarked)
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f'model {folder} cannot be read: {type(error).__name__}: {error}'
        ) from error
    if not isinstance(content, dict) or 'model' not in content:
        raise UserError(f'{folder / CONFIG} has no entry "model"')
    meta = content.get('dataset_meta') or {}
    kept = {key: content[key] for key in KEPT if key in content}
    check_types(kept, folder / CONFIG)
    return Config(kept), weights, meta


def _read_training(path: Path) -> tuple[Config, dict, dict]:
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
        cfg = Config(portable(Config(read_literals(meta['cfg']))))
    except ValueError as error:
        raise UserError(
            f'the config in checkpoint {path} is not of plain values '
            f'({error}), and code in it is not run: give the config itself, '
            'with --config or to save_pretrained'
        ) from error
    if 'model' not in cfg:
        raise UserError(f'the config in checkpoint {path} has no model')
    check_types(cfg, f'the config in checkpoint {path}')
    seen = meta.get('dataset_meta') or {}
    return cfg, checkpoint['state_dict'], dict(seen)


def _load(model: nn.Module, weights: dict, name: str | Path) -> None:
    try:
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f'the weights of {name} do not fit its own config: {error}'
        ) from error


def _threshold(cfg: Config, wanted: float | None) -> float | None:
    """What the caller wants, else what the config's hook says."""
    if wanted is not None:
        return wanted
    gates = gate_hooks(cfg.get('custom_hooks'))
    return gates[0].get('exit_threshold') if gates else None
