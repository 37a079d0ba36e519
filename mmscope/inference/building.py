"""From the config of a saved model to the model, and whether they agree."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import build_from_cfg
from torch import nn

from mmscope.datasets.class_check import counting_heads
from mmscope.errors import UserError
from mmscope.evaluation.loading import build_model, enter_host
from mmscope.models import TokenReduction, attach_gate, is_two_stage
from mmscope.runtime import gate_hooks, walk

# What callers note at a model, what its mode is, where its weights came from,
# and what they say themselves.
NOTES = (
    *('cfg', 'dataset_meta', 'CLASSES', 'PALETTE', 'training'),
    *('init_cfg', 'is_init', 'selection'),
)


def build(cfg: Config, source: object) -> nn.Module:
    """Build a model of a config that others may have written.

    Args:
        cfg (Config): Of :func:`mmscope.inference.portable_config.portable`.
        source (object): Where it comes from, for the message.

    Returns:
        nn.Module: The host's model in evaluation mode on the CPU, with the
        gate that the config asks for.

    Raises:
        UserError: If it cannot be built: naming source, key and reason.
    """
    with _blaming(source, cfg):
        enter_host(cfg)
        model = build_model(cfg, device='cpu')
        if is_two_stage(model):
            for gate in gate_hooks(cfg.get('custom_hooks')) or [{}]:
                attach_gate(model, gate.get('exit_threshold'))
    return model


def check_same(model: nn.Module, again: nn.Module) -> None:
    """Refuse a model that is not what its config builds.

    Its weights go into the other model, so that both predict the same.

    Args:
        model (nn.Module): A host's model, perhaps changed after building.
        again (nn.Module): Of :func:`build` for the same config.

    Raises:
        UserError: Naming the first difference.
    """
    _check_dtypes(model, again)
    for found in _differences(model, again):
        raise UserError(
            f'the model is not what its config builds: {found}. What was '
            'changed after building would be lost: put it into the config, '
            'and give save_pretrained(model, folder, cfg); nothing was written'
        )


def check_classes(model: nn.Module, names: Sequence, source: object) -> None:
    """Refuse names of classes that are not those of the model's heads.

    Args:
        model (nn.Module): Its head, where that counts classes, and its
            :func:`counting_heads` are looked at.
        names (Sequence): By label; none are no mistake.
        source (object): Where they come from, for the message.

    Raises:
        UserError: With both numbers.
    """
    if not names:
        return
    heads = dict(counting_heads(model))
    count = getattr(getattr(model, 'head', None), 'num_classes', None)
    if isinstance(count, int):
        heads['head'] = count
    for key, count in heads.items():
        if count != len(names):
            raise UserError(
                f'{source}: dataset_meta.classes has {len(names)} names, '
                f'but model.{key} is made for {count} classes: give one '
                'name a class, in the order of the labels'
            )


def _check_dtypes(model: nn.Module, again: nn.Module) -> None:
    """Refuse a model that would come back in another type of numbers."""
    theirs = again.state_dict()
    for key, value in model.state_dict().items():
        built = theirs.get(key, value).dtype
        if value.dtype != built:
            raise UserError(
                f'model.{key} is {value.dtype}, and would come back as '
                f'{built}, as the config builds it: save the model before it '
                'is cast, and cast what from_pretrained gives; nothing was '
                'written'
            )


def _differences(model: nn.Module, again: nn.Module) -> Iterator[str]:
    ours, theirs = dict(model.named_modules()), dict(again.named_modules())
    for name in {**theirs, **ours}:
        path = '.'.join(filter(None, ('model', name)))
        kinds = [_kind(modules.get(name)) for modules in (ours, theirs)]
        if kinds[0] != kinds[1]:
            yield f'{path} is {kinds[0]}, and {kinds[1]} in the config'
            continue
        old, new = _settings(theirs[name]), _settings(ours[name])
        for key in filter(new.__contains__, old):
            if old[key] != new[key]:
                yield (
                    f'{path}.{key} is {new[key]!r}, and {old[key]!r} in the '
                    'config'
                )
        for key in _odd_buffers(ours[name], theirs[name]):
            yield f'{path}.{key} has other values than in the config'
    try:
        again.load_state_dict(model.state_dict())
    except (RuntimeError, ValueError) as error:
        yield str(error)


def _odd_buffers(module: nn.Module, again: nn.Module) -> Iterator[str]:
    """Buffers that no state dict holds, such as a mean, and that differ."""
    names = module._non_persistent_buffers_set
    for name in sorted({*names, *again._non_persistent_buffers_set}):
        ours, theirs = (m._buffers.get(name) for m in (module, again))
        if ours is None or theirs is None:
            is_same = ours is theirs
        else:
            is_same = torch.equal(ours.cpu(), theirs.cpu())
        if not is_same:
            yield name


def _kind(module: nn.Module | None) -> str:
    """Name of a class; one of batch norms on this machine and on others."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return 'BatchNorm'
    kind = type(module)
    return 'absent' if module is None else f'{kind.__module__}.{kind.__name__}'


def _settings(module: nn.Module) -> dict[str, object]:
    """Attributes of plain values, which say how a module computes."""
    found = {}
    for key, value in vars(module).items():
        name = key.removeprefix('_')
        is_kept = isinstance(getattr(type(module), name, None), property)
        if isinstance(value, TokenReduction):
            found |= {f'{name}.{k}': getattr(value, k) for k in value.checks}
        elif name in NOTES or not (name == key or is_kept):
            continue
        elif _is_plain(value):
            found[name] = value
    return found


def _is_plain(value: object) -> bool:
    if is_dataclass(value):
        return all(map(_is_plain, vars(value).values()))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


@contextmanager
def _blaming(source: object, cfg: Config) -> Iterator[None]:
    """Name source and key in whatever error a wrong value leads to."""
    try:
        yield
    # Parts of models raise what their constructors stumble over.
    except Exception as error:
        reason = f'{type(error).__name__}: {error}'
        if isinstance(error, UserError):
            reason = str(error)
        raise UserError(
            f'{source}: {_key(error, cfg)} cannot be used: {reason}'
        ) from error


def _key(error: Exception, cfg: Config) -> str:
    """Dotted key of the innermost part that was being built."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    gate = (attach_gate.__code__, gate_hooks.__code__)
    if any(frame.f_code in gate for frame in frames):
        return 'custom_hooks'
    chain: list[Any] = [
        frame.f_locals.get('cfg')
        for frame in frames
        if frame.f_code is build_from_cfg.__code__
    ]
    odd = [chain.pop()] if chain and not isinstance(chain[-1], dict) else []
    if not chain:
        return 'model'
    found, parts = chain[-1], list(walk(cfg.model, 'model'))
    same = [key for key, node in parts if node == found]
    # Who builds a part may have added to it.
    alike = [k for k, node in parts if node.get('type') == found.get('type')]
    key = [*same, *alike, 'model'][0]
    names = [name for name, value in found.items() if [value] == odd]
    return '.'.join([key, *names[:1]])
