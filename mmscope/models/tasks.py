"""What a host model is for: the one table of tasks.

A model says what it is by the base class of its host. Nothing is imported to
ask: a model of a host that is not loaded cannot exist.
"""

from __future__ import annotations

from importlib import import_module
from sys import modules as imported_modules
from typing import Any, NamedTuple

from torch import nn

from mmscope.models.layers import unwrap_model


class Task(NamedTuple):
    """A task, and who does it.

    Attributes:
        name (str): 'classification', 'segmentation' or 'detection'.
        host (str): Package.
        base (str): Dotted path of the class that its models inherit.
        sample (str): Dotted path of its data sample.
    """

    name: str
    host: str
    base: str
    sample: str

    def new_sample(self, **options: Any) -> Any:
        """Make a data sample of the host."""
        module, _, name = self.sample.rpartition('.')
        return getattr(import_module(module), name)(**options)


CLASSIFICATION = Task(
    'classification',
    'mmpretrain',
    'mmpretrain.models.classifiers.base.BaseClassifier',
    'mmpretrain.structures.DataSample',
)
SEGMENTATION = Task(
    'segmentation',
    'mmseg',
    'mmseg.models.segmentors.base.BaseSegmentor',
    'mmseg.structures.SegDataSample',
)
DETECTION = Task(
    'detection',
    'mmdet',
    'mmdet.models.detectors.base.BaseDetector',
    'mmdet.structures.DetDataSample',
)
TASKS = (CLASSIFICATION, SEGMENTATION, DETECTION)


def task_of(model: nn.Module) -> Task | None:
    """Tell what a host model is for; None for a model of no known host."""
    model = unwrap_model(model)
    for task in TASKS:
        if inherits(model, task.base):
            return task
    return None


def inherits(module: nn.Module, path: str) -> bool:
    """Tell whether a module is of a class at a path, without importing it."""
    base = class_at(path)
    return base is not None and isinstance(module, base)


def class_at(path: str) -> type | None:
    """Find a class at a path; None where its module is not imported."""
    package, _, name = path.rpartition('.')
    return getattr(imported_modules.get(package), name, None)
