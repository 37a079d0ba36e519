"""Hosts for mmpretrain; importing this needs mmpretrain."""

from .coarse_to_fine_classifier import CoarseToFineClassifier
from .coarse_to_fine_cls_head import CoarseToFineClsHead

__all__ = ['CoarseToFineClassifier', 'CoarseToFineClsHead']
