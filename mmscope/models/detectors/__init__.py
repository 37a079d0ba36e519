"""Hosts of mmdet."""

from .early_exit_cascade_rcnn import EarlyExitCascadeRCNN
from .one_mask_cascade_roi_head import OneMaskCascadeRoIHead

__all__ = ['EarlyExitCascadeRCNN', 'OneMaskCascadeRoIHead']
