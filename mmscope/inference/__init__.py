"""What a program calls: many images through a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmscope.registry import lazy_attributes

if TYPE_CHECKING:
    from .engine import TwoStageEngine
    from .reading import ImageFailure

__all__ = ['ImageFailure', 'TwoStageEngine']

__getattr__ = lazy_attributes(
    __name__,
    {
        'ImageFailure': 'mmscope.inference.reading',
        'TwoStageEngine': 'mmscope.inference.engine',
    },
)
