"""The registries of mmscope, children of MMEngine's root registries.

MMEngine imports this module by itself when a config says ``type='mmscope.X'``
and swallows an ``ImportError`` raised here, so it imports mmengine only.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
)
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmscope',
    locations=['mmscope.models'],
)
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='mmscope',
    locations=['mmscope.engine'],
)
METRICS = Registry(
    'metric',
    parent=MMENGINE_METRICS,
    scope='mmscope',
    locations=['mmscope.evaluation'],
)
DATASETS = Registry(
    'dataset',
    parent=MMENGINE_DATASETS,
    scope='mmscope',
    locations=['mmscope.datasets'],
)
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='mmscope',
    locations=['mmscope.datasets'],
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmscope',
    locations=['mmscope.engine'],
)

_ALL = (
    MODELS,
    HOOKS,
    METRICS,
    DATASETS,
    TRANSFORMS,
    OPTIM_WRAPPER_CONSTRUCTORS,
)


def expose_unprefixed_names() -> None:
    """Make every mmscope type findable without the ``mmscope.`` prefix.

    A host looks a plain name up in its own registry and then in MMEngine's
    root, so each of our types is entered in the root as well.

    Raises:
        KeyError: If the root registry already holds another class under one
            of our names.
    """
    for registry in _ALL:
        for name, cls in registry.module_dict.items():
            known = registry.parent.module_dict.get(name)
            if known is None:
                registry.parent.register_module(name=name, module=cls)
            elif known is not cls:
                raise KeyError(
                    f'{name} is already registered in MMEngine as '
                    f'{known.__module__}.{known.__qualname__}; import '
                    'mmscope first, or use the type '
                    f'"mmscope.{name}" with that package absent'
                )
