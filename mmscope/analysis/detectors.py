"""What a detector runs behind its backbone, on a stated number of regions.

How many proposals and detections reach the heads is the weights' doing, so it
is given, not found. The heads of regions then run on features without values
(on the ``meta`` device): real layers, real operators, no arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmscope.analysis.counting import check_shape
from mmscope.analysis.op_trace import OUTSIDE, OpTrace
from mmscope.models.scoping.head_meaning import inherits as has_methods_of
from mmscope.models.tasks import DETECTION, class_at, inherits, task_of

TWO_STAGE = 'mmdet.models.detectors.two_stage.TwoStageDetector'
# Their tests run every box head on all proposals and every mask head on all
# detections; others exchange features between heads.
KNOWN_ROI_HEADS = (
    'mmdet.models.roi_heads.StandardRoIHead',
    'mmdet.models.roi_heads.CascadeRoIHead',
    'mmscope.models.detectors.OneMaskCascadeRoIHead',
)
# The methods of those tests; a subclass may train in ways of its own.
TESTING = (
    *('predict', 'predict_bbox', 'predict_mask'),
    *('_bbox_forward', '_mask_forward'),
)
# What a test does besides running layers: nothing that a convention counts.
BETWEEN_LAYERS = {
    'bbox_head': ('RoIAlign', 'box decoding', 'non-maximum suppression'),
    'mask_head': ('pasting of masks',),
}


@dataclass(frozen=True)
class Regions:
    """How many regions of one image reach the heads of a detector.

    Args:
        proposals (int): Run through every box head.
        masks (int): Run through every mask head; 0 without one.
    """

    proposals: int
    masks: int


def sees_regions(model: nn.Module) -> bool:
    """Tell whether the heads of a host model see regions of an image."""
    return inherits(model, TWO_STAGE)


def _roi_head(model: nn.Module) -> Any:
    return model.roi_head


def find_regions(
    model: nn.Module, proposals: int | None = None, masks: int | None = None
) -> Regions | None:
    """Find how many regions the heads of a detector see at most.

    Args:
        model (nn.Module): Host model.
        proposals (int | None): None for ``test_cfg.rpn.max_per_img``.
            Defaults to None.
        masks (int | None): None for ``test_cfg.rcnn.max_per_img``. Defaults
            to None.

    Returns:
        Regions | None: None for a model whose heads see no regions, or whose
        way of running them is not known here, see :func:`unknown_heads`.

    Raises:
        ValueError: If a number is given that the model has no use for, or
            missing and not in its ``test_cfg``.
    """
    known = sees_regions(model) and not unknown_heads(model)
    with_mask = known and _roi_head(model).with_mask
    for name, given, used in (
        ('proposals', proposals, known),
        ('masks', masks, with_mask),
    ):
        if given is not None and not used:
            raise ValueError(
                f'{type(model).__name__} has no head that could be counted '
                f'on {given} {name}; leave {name} out'
            )
    if not known:
        return None
    if proposals is None:
        proposals = _most(model, 'rpn')
    if not with_mask:
        return Regions(proposals, 0)
    return Regions(proposals, _most(model, 'rcnn') if masks is None else masks)


def _most(model: nn.Module, part: str) -> int:
    config: Any = model.test_cfg
    number = ((config or {}).get(part) or {}).get('max_per_img', -1)
    if number < 0:
        raise ValueError(
            f'test_cfg.{part}.max_per_img does not say how many regions '
            f'{type(model).__name__} has at most; give proposals and masks'
        )
    return number


def unknown_heads(model: nn.Module) -> list[str]:
    """List the modules whose input is not known here.

    ``['roi_head']`` for a RoI head that tests like none of
    ``KNOWN_ROI_HEADS``, or one with a shared head.
    """
    if not sees_regions(model):
        return []
    kind = type(_roi_head(model))
    known = any(_tests_like(kind, class_at(path)) for path in KNOWN_ROI_HEADS)
    alone = known and not _roi_head(model).with_shared_head
    return [] if alone else ['roi_head']


def _tests_like(kind: type, base: type | None) -> bool:
    if base is None or not issubclass(kind, base):
        return False
    return has_methods_of(kind, base, *TESTING)


def between_layers(model: nn.Module, regions: Regions | None) -> list[str]:
    """Name what a detector's test does besides running its layers.

    No convention counts any of it.
    """
    if regions is None:
        # mmdet's name for the head of a single-stage detector.
        dense = task_of(model) == DETECTION and not sees_regions(model)
        return list(BETWEEN_LAYERS['bbox_head'][1:]) if dense else []
    names = list(BETWEEN_LAYERS['bbox_head'])
    with_mask = _roi_head(model).with_mask
    return names + list(BETWEEN_LAYERS['mask_head'] * with_mask)


class DetectorForward:
    """Runs a two-stage detector's layers on one image and some regions.

    Backbone, neck and region proposals see the image; box and mask heads see
    features of the size that their RoI extractor gives, on ``meta``, which
    are made here so that no trace of the forward contains their making.

    Args:
        model (nn.Module): Two-stage detector of mmdet.
        regions (Regions | None): From :func:`find_regions`; None leaves the
            heads of regions out.
    """

    def __init__(self, model: nn.Module, regions: Regions | None) -> None:
        self._model: Any = model
        self._regional: list[Callable[[], object]] = []
        if regions is not None:
            self._regional = list(_regional_calls(_roi_head(model), regions))

    def __call__(self, imgs: Tensor) -> None:
        """Run everything on an image (1, C, H, W)."""
        self.behind(self._model.backbone(imgs))

    def behind(self, maps: Sequence[Tensor]) -> None:
        """Run what stands behind the backbone on the backbone's maps."""
        model = self._model
        feats = model.neck(maps) if model.with_neck else maps
        if model.with_rpn:
            model.rpn_head(feats)
        for call in self._regional:
            call()


def _regional_calls(
    roi_head: Any, regions: Regions
) -> Iterator[Callable[[], object]]:
    """Prepare the call of every box head and every mask head."""
    parts = [('bbox', regions.proposals)]
    if roi_head.with_mask:
        parts.append(('mask', regions.masks))
    for name, number in parts:
        heads = _listed(getattr(roi_head, f'{name}_head'))
        extractors = _listed(getattr(roi_head, f'{name}_roi_extractor'))
        # One mask head may share the extractors of several box heads.
        for head, extractor in zip(heads, extractors, strict=False):
            size = extractor.roi_layers[0].output_size
            shape = (number, extractor.out_channels, *size)
            yield partial(
                functional_call,
                head,
                _without_values(head),
                (torch.empty(shape, device='meta'),),
            )


def _listed(modules: nn.Module) -> Iterable[Any]:
    return modules if isinstance(modules, nn.ModuleList) else [modules]


def _without_values(module: nn.Module) -> dict[str, Tensor]:
    entries = (*module.named_parameters(), *module.named_buffers())
    return {name: torch.empty_like(t, device='meta') for name, t in entries}


def count_behind(
    model: nn.Module, shape: tuple[int, int], regions: Regions | None
) -> int:
    """Count what a detector on ``meta`` runs behind its backbone.

    MACs of neck and heads for one image (height, width).
    """
    check_shape(shape)
    backbone: Any = model.eval().backbone
    size = (1, backbone.embed_dims, *map(backbone.num_cells, shape))
    maps = [torch.empty(size, device='meta') for _ in backbone.out_indices]
    forward = DetectorForward(model, regions)
    with torch.no_grad(), OpTrace(model, backbone) as trace:
        forward.behind(maps)
    return sum(c.cost or 0 for c in trace.calls if c.stage == OUTSIDE)
