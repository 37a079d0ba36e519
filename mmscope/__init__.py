"""MambaScope for OpenMMLab: adaptive Vision Mamba as a plugin.

Importing this package registers every type, with and without the
``mmscope.`` prefix. It needs torch and mmengine; what belongs to mmseg,
mmdet or mmpretrain is there where those are installed.
"""

from . import datasets, engine, evaluation, models
from .registry import expose_unprefixed_names
from .version import __version__

expose_unprefixed_names()

__all__ = ['__version__', 'datasets', 'engine', 'evaluation', 'models']
