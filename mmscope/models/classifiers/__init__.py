"""Hosts for mmpretrain; importing this needs mmpretrain."""

from .coarse_to_fine_classifier import CoarseToFineClassifier
from .coarse_to_fine_cls_head import CoarseToFineClsHead
from .distilled_classifier import DistilledClassifier

__all__ = [
    'CoarseToFineClassifier',
    'CoarseToFineClsHead',
    'DistilledClassifier',
]
