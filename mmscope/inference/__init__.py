"""What a program calls: many images through a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmscope.registry import lazy_attributes

if TYPE_CHECKING:
    from .engine import TwoStageEngine
    from .reading import ImageFailure
    from .serving import DeadlinePassed, EngineServer, Overloaded

__all__ = [
    'DeadlinePassed',
    'EngineServer',
    'ImageFailure',
    'Overloaded',
    'TwoStageEngine',
]

__getattr__ = lazy_attributes(
    __name__,
    {
        'DeadlinePassed': 'mmscope.inference.serving',
        'EngineServer': 'mmscope.inference.serving',
        'ImageFailure': 'mmscope.inference.reading',
        'Overloaded': 'mmscope.inference.serving',
        'TwoStageEngine': 'mmscope.inference.engine',
    },
)
