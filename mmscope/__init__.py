"""MambaScope for OpenMMLab: adaptive Vision Mamba as a plugin.

Importing this package makes every type known, with and without the
``mmscope.`` prefix, and imports none: a type is loaded when a config or a
program asks for it, and its host with it. It needs torch and mmengine.
"""

from importlib import import_module
from types import ModuleType

from . import registry
from .version import __version__

_ROOMS = ('datasets', 'engine', 'evaluation', 'models')

__all__ = ['__version__', 'registry', *_ROOMS]


def __getattr__(name: str) -> ModuleType:
    """Import a room when it is asked for."""
    if name not in _ROOMS:
        raise AttributeError(f'module {__name__!r} has no {name!r}')
    return import_module(f'{__name__}.{name}')
