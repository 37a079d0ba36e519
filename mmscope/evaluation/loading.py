"""From a config to a model and a data loader, for the analysis tools."""

from __future__ import annotations

from importlib import import_module

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

import mmscope  # noqa: F401  (registers our types)
from mmscope.errors import UserError
from mmscope.models import TokenBackbone, attach_gate
from mmscope.models.backbones.arguments import to_2tuple
from mmscope.runtime import (
    adapt_to_machine,
    check_host,
    gate_hooks,
    load_config,
    load_model_weights,
)
from mmscope.runtime.config import quiet_host
from mmscope.runtime.exit_choice import SPLITS


def open_config(path: str, cfg_options: dict | None = None) -> Config:
    """Read a config for evaluation on this machine.

    Raises:
        UserError: If the file, an override or the host is at fault.
    """
    cfg = load_config(path, cfg_options)
    enter_host(cfg)
    return cfg


def enter_host(cfg: Config) -> None:
    """Fit a config to this machine, make its host's types known.

    Raises:
        UserError: If the host is not installed.
    """
    check_host(cfg)
    cfg.setdefault('launcher', 'none')
    adapt_to_machine(cfg)
    scope = cfg.default_scope
    with quiet_host():
        register = import_module(f'{scope}.utils').register_all_modules
        register(init_default_scope=False)
    init_default_scope(scope)


def build_model(
    cfg: Config,
    checkpoint: str | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Build a config's model for evaluation.

    Args:
        cfg (Config): From :func:`open_config`.
        checkpoint (str | None): Weights, which must be complete; None keeps
            the random ones. Defaults to None.
        device (str | torch.device | None): None for the GPU if there is one.
            Defaults to None.

    Raises:
        UserError: If there is no backbone, or the weights do not fit.
    """
    model = MODELS.build(cfg.model)
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise UserError(
            f'this tool needs a model with a backbone, {type(model).__name__} '
            'has none'
        )
    for hook in gate_hooks(cfg.get('custom_hooks')):
        # In a plain classifier the hook alone says how the gate decides.
        told = {key: hook.get(key) for key in ('confidence', 'temperature')}
        if any(told.values()):
            attach_gate(model, **told)
    if checkpoint is not None:
        load_model_weights(model, checkpoint)
    return model.to(default_device(device)).eval()


def default_device(
    device: str | torch.device | None = None,
) -> str | torch.device:
    """Return a device, or where none is named the GPU if there is one."""
    if device is not None:
        return device
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def build_dataloader(
    cfg: Config, split: str = 'test', batch_size: int | None = None
) -> DataLoader:
    """Build the loader of a config's validation or test data.

    Raises:
        UserError: If the config has no such data.
    """
    found = cfg.get(f'{split}_dataloader')
    if found is None:
        raise UserError(
            f'the config has no {split}_dataloader; splits are {SPLITS}'
        )
    loader = found.copy()
    if batch_size is not None:
        loader['batch_size'] = batch_size
    return Runner.build_dataloader(loader, seed=0)


def input_shape(cfg: Config, model: nn.Module) -> tuple[int, int]:
    """Find the image size that a config is made for.

    Returns:
        tuple[int, int]: (height, width) in pixels: the size that the data
        preprocessor pads to, else that of the backbone, else the last one
        that the test pipeline crops or resizes to.

    Raises:
        UserError: If none of them says it.
    """
    size = (cfg.model.get('data_preprocessor') or {}).get('size')
    if size is None and isinstance(model.backbone, TokenBackbone):
        return model.backbone.img_size
    if size is None:
        size = _pipeline_size(cfg)
    if size is None:
        raise UserError(
            'neither data_preprocessor.size nor the test pipeline of this '
            'config says how large its images are: give --shape H W'
        )
    return to_2tuple(size)


def _pipeline_size(cfg: Config) -> int | tuple[int, int] | None:
    pipeline = cfg.get('test_pipeline') or []
    loader = cfg.get('test_dataloader') or {}
    for step in reversed(loader.get('dataset', {}).get('pipeline', pipeline)):
        if step.get('crop_size') is not None:
            return step['crop_size']
        if step.get('scale') is not None:
            scale = step['scale']
            # mmcv says (width, height).
            return scale if isinstance(scale, int) else tuple(scale)[::-1]
    return None
