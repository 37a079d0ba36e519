"""What a model looks at in images of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch import Tensor, nn

from mmscope.apis import UserError
from mmscope.evaluation.both_ends import evaluating
from mmscope.evaluation.variants import Variant
from mmscope.models import at_threshold, is_two_stage, observe
from mmscope.models.layers import unwrap_model
from mmscope.models.scoping import ExitRecord
from mmscope.visualization.contents import predicted_content, true_content
from mmscope.visualization.views import ScopeView


def predict_views(
    model: nn.Module,
    dataset: Any,
    indices: Sequence[int],
    others: Sequence[str] = (),
) -> list[ScopeView]:
    """Run a model on some images and keep what it looked at.

    Args:
        model (nn.Module): Model of any host with a two-stage backbone;
            its exit threshold decides who exits.
        dataset (Any): Data set of the same host with the test pipeline, or
            :class:`ImageFiles`.
        indices (Sequence[int]): Images.
        others (Sequence[str]): Metrics of importance that are shown, and
            decide nothing. Defaults to none.

    Returns:
        list[ScopeView]: One an image.

    Raises:
        ValueError: If the backbone has no coarse stage, an index is outside
            the data set, an image cannot be read or takes several forwards
            (sliding windows), or a metric is unknown.
    """
    variants = [Variant({'score_metric': metric}) for metric in others]
    with evaluating(model) as backbone:
        _refuse_single_stage(backbone)
        return [
            _predict_view(model, dataset, index, variants)
            for index in _checked(indices, len(dataset))
        ]


def spread_by_confidence(
    model: nn.Module, dataset: Any, number: int
) -> list[int]:
    """Choose images evenly from the most to the least confident.

    Args:
        model (nn.Module): See :func:`predict_views`.
        dataset (Any): Its images are all looked at, coarsely.
        number (int): Images, at least one.

    Returns:
        list[int]: Their indices, the most confident first.

    Raises:
        ValueError: If nothing in the model is confident of anything, or see
            :func:`predict_views`.
    """
    _refuse_single_stage(unwrap_model(model).backbone)
    confidences = []
    with at_threshold(model, 0.0):
        for index in range(len(dataset)):
            (view,) = predict_views(model, dataset, [index])
            confidences.append(view.confidence)
    if None in confidences:
        raise ValueError(
            'the model has no exit head, so its images have no confidence: '
            'choose images by their indices'
        )
    order = np.argsort([-value for value in confidences], kind='stable')
    places = np.linspace(0, len(order) - 1, min(number, len(order)))
    return [int(index) for index in order[places.round().astype(int)]]


def _refuse_single_stage(backbone: nn.Module) -> None:
    if not is_two_stage(backbone):
        raise ValueError(
            f'{type(backbone).__name__} looks at an image only once; scope '
            'pictures need a two-stage one such as mmscope.MambaScope'
        )


def _checked(indices: Sequence[int], number: int) -> Sequence[int]:
    wrong = [index for index in indices if not 0 <= index < number]
    if wrong:
        raise ValueError(
            f'image {wrong[0]} is outside the data set, which has {number} '
            f'images: indices go from 0 to {number - 1}'
        )
    return indices


def _predict_view(
    model: nn.Module,
    dataset: Any,
    index: int,
    variants: Sequence[Variant],
) -> ScopeView:
    info = dataset.get_data_info(index)
    path = info.get('img_path')
    if path is not None:
        check_image(path)
    item = dataset[index]
    sample, record = _predict(model, item)
    others = {}
    for variant in variants:
        with variant.applied(model):
            _, other = _predict(model, item)
        (metric,) = variant.settings.values()
        others[metric] = _importance(other)
    backbone = unwrap_model(model).backbone
    side = backbone.grid_multiple * backbone.patch_size
    return ScopeView(
        # Some data sets hold pixels instead of files.
        name=str(index) if path is None else Path(path).stem,
        image=rgb_image(item['inputs']),
        importance=_importance(record),
        refined=record.refined[0].cpu().numpy(),
        prediction=predicted_content(sample),
        label=true_content(sample, info),
        exited=bool(record.exited[0]),
        confidence=(
            None if record.confidence is None else float(record.confidence[0])
        ),
        canvas=(record.grid[0] * side, record.grid[1] * side),
        threshold=backbone.exit_threshold,
        others=others,
    )


def _predict(model: nn.Module, item: dict) -> tuple[Any, ExitRecord]:
    with observe(model) as records:
        (sample,) = model.test_step(pseudo_collate([item]))
    if len(records) != 1:
        raise ValueError(
            f'the image took {len(records)} forwards; pictures need one: '
            'test_cfg=dict(mode="whole") in mmseg, no test-time augmentation'
        )
    return sample, records[0]


def _importance(record: ExitRecord) -> np.ndarray:
    return record.importance[0].float().cpu().numpy()


def check_image(path: str | Path) -> None:
    """Check that an image file is whole.

    Args:
        path (str | Path): Image file; addresses of other storage pass.

    Raises:
        UserError: If it is missing or cannot be decoded.
    """
    if '://' in str(path):
        return
    try:
        with Image.open(path) as image:
            image.load()
    # Pillow's decoders raise many types on damaged files.
    except Exception as error:
        raise UserError(f'image {path} cannot be read: {error}') from error


def rgb_image(inputs: Tensor) -> np.ndarray:
    """Turn what a pipeline loads into a picture.

    Args:
        inputs (Tensor): Image in BGR, as mmcv loads it, (3, H, W) in 0-255.

    Returns:
        np.ndarray: RGB, (H, W, 3) uint8.
    """
    image = inputs.permute(1, 2, 0).cpu().numpy()[..., ::-1]
    return np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))
