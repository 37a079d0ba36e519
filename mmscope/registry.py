"""The registries of mmscope: children of MMEngine's, filled on demand.

Nothing is imported before a config names it: ``MODULES`` says where each type
is defined, and a type is imported when it is looked up. So a host that is
missing or broken concerns only those who ask for its classes.

MMEngine imports this module by itself when a config says ``type='mmscope.X'``
and swallows an ``ImportError`` raised here, so it imports mmengine only.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from sys import modules as imported_modules
from typing import Any

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
)
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmscope')
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmscope')
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='mmscope')
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='mmscope')
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope='mmscope')
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmscope',
)

# Registry -> type -> the module that defines it.
MODULES: dict[Registry, dict[str, str]] = {
    MODELS: {
        'CoarseToFineClassifier': (
            'mmscope.models.classifiers.coarse_to_fine_classifier'
        ),
        'CoarseToFineClsHead': (
            'mmscope.models.classifiers.coarse_to_fine_cls_head'
        ),
        'DistilledClassifier': (
            'mmscope.models.classifiers.distilled_classifier'
        ),
        'DyVM': 'mmscope.models.reduction.dyvm',
        'EarlyExitCascadeRCNN': (
            'mmscope.models.detectors.early_exit_cascade_rcnn'
        ),
        'EarlyExitEncoderDecoder': (
            'mmscope.models.segmentors.early_exit_encoder_decoder'
        ),
        'ExitOnly': 'mmscope.models.scoping.exit_only',
        'HiddenAlign': 'mmscope.models.reduction.hidden_align',
        'LN2d': 'mmscope.models.necks.layer_norm',
        'MambaReg': 'mmscope.models.backbones.mamba_reg',
        'MambaRegScope': 'mmscope.models.scopes',
        'MambaScope': 'mmscope.models.scopes',
        'MultiLabelExitHead': 'mmscope.models.heads.multi_label_exit_head',
        'OneMaskCascadeRoIHead': (
            'mmscope.models.detectors.one_mask_cascade_roi_head'
        ),
        'RMeeTo': 'mmscope.models.reduction.r_meeto',
        'SimpleFPN': 'mmscope.models.necks.simple_fpn',
        'TokenViT': 'mmscope.models.backbones.token_vit',
        'ViTScope': 'mmscope.models.scopes',
        'VideoMamba': 'mmscope.models.backbones.video_mamba',
        'VideoMambaScope': 'mmscope.models.scopes',
        'VisionMamba': 'mmscope.models.backbones.vim',
    },
    HOOKS: {
        'ClassCheckHook': 'mmscope.datasets.class_check',
        'ClassPicturesHook': 'mmscope.engine.hooks.class_pictures',
        'ConfidenceGateHook': 'mmscope.engine.hooks.confidence_gate',
        'FirstBadLayerHook': 'mmscope.engine.hooks.first_bad_layer',
        'InformativeSelectionHook': (
            'mmscope.engine.hooks.informative_selection'
        ),
        'TokenReductionHook': 'mmscope.engine.hooks.token_reduction',
    },
    METRICS: {
        'EarlyExitMetric': 'mmscope.evaluation.early_exit_metric',
        'TokenReductionMetric': 'mmscope.evaluation.token_reduction_metric',
    },
    DATASETS: {
        'ADE20KDataset': 'mmscope.datasets.segmentation',
        'CamVidDataset': 'mmscope.datasets.segmentation',
        'CocoDetectionDataset': 'mmscope.datasets.detection',
        'ImageFolder': 'mmscope.datasets.classification',
        'RenderedObjects': 'mmscope.datasets.demo_objects',
        'SegmentationFolder': 'mmscope.datasets.segmentation',
    },
    TRANSFORMS: {'LoadImage': 'mmscope.datasets.loading'},
    OPTIM_WRAPPER_CONSTRUCTORS: {
        'LayerDecayOptimWrapperConstructor': (
            'mmscope.engine.optimizers.layer_decay'
        ),
        'OptimWrapperConstructor': 'mmscope.engine.optimizers.constructor',
    },
}
# Hosts, and what each is installed as.
HOSTS = {
    'mmseg': 'mmsegmentation',
    'mmdet': 'mmdetection',
    'mmpretrain': 'mmpretrain',
}

INSTALL_HINT = (
    '`mmscope doctor` names the command that installs it here, for the stack '
    'that is there'
)


def load(name: str, module: str) -> Any:
    """Import one of our classes from the module that defines it.

    Args:
        name (str): Of the class or function.
        module (str): Dotted path.

    Raises:
        ImportError: If a host that the module needs is missing or broken,
            with what to install.
    """
    try:
        return getattr(import_module(module), name)
    # Hosts refuse a mmcv that they do not like by an AssertionError.
    except Exception as error:
        culprit = _outside(error)
        if culprit is None:
            raise
        package = HOSTS.get(culprit, culprit)
        raise ImportError(
            f'{name} needs {package}, which is missing or broken here '
            f'({type(error).__name__}: {error}). {INSTALL_HINT}',
            name=culprit,
        ) from error


def _outside(error: Exception) -> str | None:
    """The package that an import failed in, None if it is this one."""
    name = (
        getattr(error, 'name', None)
        if isinstance(error, ImportError)
        else None
    )
    if name is None:
        frames = traceback.walk_tb(error.__traceback__)
        names = [frame.f_globals.get('__name__', '') for frame, _ in frames]
        # What was imported last, below Python's own machinery.
        found = [n for n in names if not n.startswith('importlib')]
        name = found[-1] if found else __name__
    package = str(name).partition('.')[0]
    return None if package == 'mmscope' else package


def lazy_attributes(
    package: str, modules: Mapping[str, str]
) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package that imports names on demand.

    Args:
        package (str): Its ``__name__``.
        modules (Mapping[str, str]): Name -> module that defines it.

    Returns:
        Callable[[str], Any]: To be bound to ``__getattr__`` (PEP 562). It
        raises an ImportError that names a missing host.
    """

    def attribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f'module {package!r} has no {name!r}')
        return load(name, modules[name])

    return attribute


class _OnDemand(dict[str, Any]):
    """Types by name; those in ``modules`` are imported when looked up.

    ``Registry.get`` reads this dict directly: ``in``, then ``[]``.
    """

    def __init__(
        self, entries: Mapping[str, Any], modules: Mapping[str, str]
    ) -> None:
        super().__init__(entries)
        self.modules = modules

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.modules

    def __missing__(self, name: str) -> Any:
        if name not in self.modules:
            raise KeyError(name)
        found = load(name, self.modules[name])
        self[name] = found
        return found

    def get(self, name: str, default: Any = None) -> Any:
        known = name in self
        return self[name] if known else default


class _OwnOnDemand(_OnDemand):
    """The same for the registry in which the types register themselves.

    While its module is being imported a type must count as absent, or
    ``register_module`` would refuse it as a second one of that name.
    """

    def __contains__(self, name: object) -> bool:
        if dict.__contains__(self, name):
            return True
        module = self.modules.get(name) if isinstance(name, str) else None
        return module is not None and module not in imported_modules


def _import_on_demand() -> None:
    """Enter every type, in our registries and, unprefixed, in MMEngine's.

    A host looks a plain name up in its own registry, where mmseg has an
    ADE20KDataset and mmpretrain an LN2d, and then in MMEngine's root. Where
    somebody else has one of our names there, it stays theirs.
    """
    for registry, modules in MODULES.items():
        parent = registry.parent
        registry._module_dict = _OwnOnDemand(registry.module_dict, modules)
        free = dict(modules)
        for name in modules.keys() & parent.module_dict.keys():
            known = parent.module_dict[name]
            warnings.warn(
                f'{name} is already registered in MMEngine as '
                f'{known.__module__}.{known.__qualname__}: the plain name '
                f"stays that one's, ours is 'mmscope.{name}'",
                stacklevel=2,
            )
            del free[name]
        parent._module_dict = _OnDemand(parent.module_dict, free)


_import_on_demand()
