"""Where the hosts keep labels, and which label they ignore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


def ignored_label(host: nn.Module) -> int | None:
    """Ask a host which label of its maps no head learns.

    Args:
        host (nn.Module): Of any framework, without wrappers.

    Returns:
        int | None: ``ignore_index`` of the decode head that predicts; None
        where there is no such head, or it learns every label.
    """
    head: Any = getattr(host, 'decode_head', None)
    # Of a cascade the last head predicts.
    if isinstance(head, (nn.ModuleList, Sequence)):
        head = head[-1]
    return getattr(head, 'ignore_index', None)


def label_map(sample: Any) -> Tensor:
    """Take the label map of a sample, where mmseg or mmdet has put it.

    Args:
        sample (Any): With ``gt_sem_seg``.

    Returns:
        Tensor: (H, W) int64.
    """
    found = sample.gt_sem_seg
    labels = getattr(found, 'data', None)
    labels = found.sem_seg if labels is None else labels
    return labels.reshape(labels.shape[-2:]).long()


def has_boxes(sample: Any) -> bool:
    """Tell whether a sample is annotated by objects."""
    return hasattr(getattr(sample, 'gt_instances', None), 'labels')


def check_labels(
    labels: Tensor, num_classes: int, ignored: int | None = None
) -> None:
    """Refuse labels that are none of the exit head's classes.

    Raises:
        ValueError: If one is not in [0, C).
    """
    if labels.numel() and not (
        0 <= labels.min() <= labels.max() < num_classes
    ):
        without = 'none' if ignored is None else f'label {ignored}'
        raise ValueError(
            f'annotation holds labels {int(labels.min())} to '
            f'{int(labels.max())}, the exit head has num_classes='
            f'{num_classes}, and {without} is ignored (decode_head.'
            'ignore_index): set exit_head.num_classes to that of the data '
            'set; what pads label maps (data_preprocessor.seg_pad_val) and '
            'unlabelled pixels must have the ignored label'
        )
