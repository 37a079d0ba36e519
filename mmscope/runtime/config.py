"""From command line to config."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from mmscope.errors import UserError
from mmscope.registry import HOSTS, INSTALL_HINT, MODELS

from .configs import find_config, work_name


def load_config(
    config: str,
    cfg_options: dict | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
    local_rank: int = 0,
) -> Config:
    """Read the config and merge what the command line overrides.

    Without ``work_dir`` that of the config counts, or one named after it;
    ``launcher`` and ``local_rank`` say how the processes were started.

    Raises:
        UserError: If the file is missing or cannot be read, or an override
            does not fit.
    """
    path = find_config(config)
    cfg = read_config(path)
    try:
        cfg.merge_from_dict(cfg_options or {})
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f'--cfg-options {cfg_options} does not fit {path}: {error}'
        ) from error
    if 'model' not in cfg:
        raise UserError(
            f'config {path} has no model: expected a complete (leaf) config '
            'such as configs/ade20k/mambascope_ti_upernet.py, not a base'
        )
    cfg.launcher = launcher
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    named = str(Path('work_dirs') / work_name(path))
    cfg.work_dir = work_dir or cfg.get('work_dir') or named
    return cfg


def read_config(path: Path) -> Config:
    """Read a config with its bases, or say why that is impossible.

    Raises:
        UserError: If the file or a base cannot be read.
    """
    try:
        return Config.fromfile(str(path))
    except Exception as error:
        raise UserError(
            f'config {path} cannot be read: {type(error).__name__}: {error}'
        ) from error


def check_host(cfg: Config) -> None:
    """Check that the framework of ``default_scope`` is there and loads.

    Raises:
        UserError: If the scope is unknown, or its package is absent or cannot
            be imported, as mmdetection cannot without mmcv's compiled ops.
    """
    if cfg.get('default_scope') is None:
        cfg.default_scope = _host_of(cfg.model)
    scope = cfg.default_scope
    if scope not in HOSTS:
        raise UserError(
            f'default_scope is {scope!r}, expected one of {sorted(HOSTS)}: '
            'it names the framework that trains the model'
        )
    missing = [name for name in ('mmcv', scope) if find_spec(name) is None]
    if missing:
        raise UserError(
            f'this config needs {HOSTS[scope]}; {" and ".join(missing)} not '
            f'installed. {INSTALL_HINT}'
        )
    try:
        with quiet_host():
            import_module(f'{scope}.models')
    # They refuse a mmcv that they do not like by an AssertionError.
    except (ImportError, AssertionError) as error:
        raise UserError(
            f'this config needs {HOSTS[scope]}, which cannot be imported '
            f'here ({type(error).__name__}: {error}). {INSTALL_HINT}'
        ) from error


@contextmanager
def quiet_host() -> Iterator[None]:
    """Keep back what hosts say of optional parts that nobody asked for."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def _host_of(model: dict) -> str | None:
    """The host that a model's class is of, or inherits from."""
    kind = model.get('type')
    if isinstance(kind, str):
        kind = MODELS.get(kind)
    bases = getattr(kind, '__mro__', ())
    roots = (base.__module__.partition('.')[0] for base in bases)
    return next((root for root in roots if root in HOSTS), None)


def type_name(node: dict) -> str:
    """Name the class that an entry of a config asks for, '' for none.

    Its ``type`` is a name, with or without a scope, or, in Python-style
    configs, the class itself.
    """
    kind = node.get('type') or ''
    name = kind if isinstance(kind, str) else kind.__name__
    return name.rpartition('.')[2]


def walk(node: object, key: str) -> Iterator[tuple[str, dict]]:
    """Yield every dict in a config tree, not copies, with its dotted key."""
    if isinstance(node, dict):
        yield key, node
        for name, child in node.items():
            yield from walk(child, f'{key}.{name}')
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from walk(child, f'{key}.{index}')
