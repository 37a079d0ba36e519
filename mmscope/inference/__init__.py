"""What a program calls: trained models by name, many images through one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmscope.registry import lazy_attributes

if TYPE_CHECKING:
    from .engine import TwoStageEngine
    from .pretrained import from_pretrained, save_pretrained, shipped_names
    from .reading import ImageFailure
    from .serving import DeadlinePassed, EngineServer, Overloaded

_MODULES = {
    'DeadlinePassed': 'serving',
    'EngineServer': 'serving',
    'ImageFailure': 'reading',
    'Overloaded': 'serving',
    'TwoStageEngine': 'engine',
    'from_pretrained': 'pretrained',
    'save_pretrained': 'pretrained',
    'shipped_names': 'pretrained',
}
__all__ = list(_MODULES)
__getattr__ = lazy_attributes(
    __name__, {k: f'{__name__}.{v}' for k, v in _MODULES.items()}
)
