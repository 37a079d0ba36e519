"""MambaScope for OpenMMLab: adaptive Vision Mamba as a plugin.

Importing this package makes every type known, with and without the
``mmscope.`` prefix, and imports none: a type is loaded when a config or a
program asks for it, and its host with it. It needs torch and mmengine.
"""

from importlib import import_module

from . import registry
from .version import __version__

_ROOMS = ('datasets', 'engine', 'evaluation', 'inference', 'models')
_PRETRAINED = ('from_pretrained', 'save_pretrained')

__all__ = ['__version__', 'registry', *_ROOMS, *_PRETRAINED]


def __getattr__(name: str) -> object:
    """Import a room, or the loading of models, when it is asked for."""
    if name in _PRETRAINED:
        return getattr(import_module(f'{__name__}.inference'), name)
    if name not in _ROOMS:
        raise AttributeError(f'module {__name__!r} has no {name!r}')
    return import_module(f'{__name__}.{name}')
