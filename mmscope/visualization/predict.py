"""Pictures of a segmentation model on images of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmscope.analysis.costs import is_two_stage
from mmscope.evaluation.both_ends import evaluating
from mmscope.visualization.scope import ScopeView, exit_gallery, scope_figure
from mmscope.visualization.style import save


def predict_views(
    model: nn.Module, dataset: Any, indices: Sequence[int]
) -> list[ScopeView]:
    """Run a segmentor on some images and keep what it looked at.

    Args:
        model (nn.Module): mmseg model with a ``MambaScope`` backbone; its
            exit threshold decides who exits.
        dataset (Any): mmseg data set with the test pipeline.
        indices (Sequence[int]): Images.

    Returns:
        list[ScopeView]: One an image.

    Raises:
        ValueError: If the backbone has no coarse stage, or an image takes
            several forwards (sliding windows).
    """
    with evaluating(model) as backbone:
        if not is_two_stage(backbone):
            raise ValueError(
                f'{type(backbone).__name__} looks at an image only once; '
                'scope pictures need a MambaScope backbone'
            )
        return [
            _predict_view(model, backbone, dataset[index]) for index in indices
        ]


def _predict_view(
    model: nn.Module, backbone: nn.Module, item: dict
) -> ScopeView:
    image = rgb_image(item['inputs'])
    backbone.exit_records = []
    (sample,) = model.test_step(pseudo_collate([item]))
    if len(backbone.exit_records) != 1:
        raise ValueError(
            f'the image took {len(backbone.exit_records)} forwards; pictures '
            'need test_cfg=dict(mode="whole")'
        )
    (record,) = backbone.exit_records
    stride = 2 * backbone.patch_size
    label = sample.get('gt_sem_seg')
    return ScopeView(
        name=Path(sample.metainfo.get('img_path', '')).stem,
        image=image,
        importance=record.importance[0].float().cpu().numpy(),
        refined=record.refined[0].cpu().numpy(),
        prediction=_class_map(sample.pred_sem_seg.data),
        label=None if label is None else _class_map(label.data),
        exited=bool(record.exited[0]),
        confidence=(
            None if record.confidence is None else float(record.confidence[0])
        ),
        canvas=(record.grid[0] * stride, record.grid[1] * stride),
    )


def rgb_image(inputs: Tensor) -> np.ndarray:
    """Turn what a pipeline loads into a picture.

    Args:
        inputs (Tensor): Image in BGR, as mmcv loads it, (3, H, W) in 0-255.

    Returns:
        np.ndarray: RGB, (H, W, 3) uint8.
    """
    image = inputs.permute(1, 2, 0).cpu().numpy()[..., ::-1]
    return np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))


def _class_map(labels: Tensor) -> np.ndarray:
    return labels.squeeze(0).cpu().numpy().astype(np.int64)


def draw_scope_pictures(
    model: nn.Module,
    dataset: Any,
    out_dir: str | Path,
    indices: Sequence[int],
) -> list[Path]:
    """Write one picture an image, and an overview of all.

    Args:
        model (nn.Module): See :func:`predict_views`.
        dataset (Any): mmseg data set; ``metainfo`` names classes and colours.
        out_dir (str | Path): Folder.
        indices (Sequence[int]): Images.

    Returns:
        list[Path]: PNG files: image, importance map, refined regions,
        prediction, ground truth. The overview comes last, if there are
        several images.

    Raises:
        ValueError: See :func:`predict_views`.
    """
    views = predict_views(model, dataset, indices)
    classes, palette = _meta(dataset)
    folder = Path(out_dir)
    files = [
        save(
            scope_figure([view], classes, palette),
            folder / f'scope_{index:04d}_{view.name}.png',
        )
        for index, view in zip(indices, views, strict=True)
    ]
    if len(views) > 1:
        overview = scope_figure(views, classes, palette)
        files.append(save(overview, folder / 'scope_overview.png'))
    return files


def draw_exit_gallery(
    model: nn.Module,
    dataset: Any,
    path: str | Path,
    images: Sequence[dict],
    number: int = 5,
) -> Path:
    """Show the images of which the model is most and least sure.

    Args:
        model (nn.Module): See :func:`predict_views`.
        dataset (Any): The data set that was swept, in the same order.
        path (str | Path): PNG file.
        images (Sequence[dict]): ``SweepResult.images``.
        number (int): Images in each group. Defaults to 5.

    Returns:
        Path: The file.

    Raises:
        ValueError: If the sweep is of another data set, or had no gate.
    """
    if len(images) != len(dataset) or 'confidence' not in images[0]:
        raise ValueError(
            f'the sweep has {len(images)} images, the data set '
            f'{len(dataset)}; pass the images of a gated sweep of it'
        )
    order = sorted(
        range(len(images)), key=lambda index: -images[index]['confidence']
    )
    number = min(number, max(1, len(order) // 2))
    groups = _spread(order, number), _spread(order[::-1], number)
    most, least = (predict_views(model, dataset, group) for group in groups)
    notes = {
        Path(image['name']).stem: f'refining: {image["gain_mIoU"]:+.1f} mIoU'
        for image in images
        if image.get('gain_mIoU') is not None
    }
    classes, palette = _meta(dataset)
    return save(exit_gallery(most, least, classes, palette, notes), path)


def _spread(order: list[int], number: int) -> list[int]:
    """Take the first indices that are no neighbours (frames of a video)."""
    gap = len(order) // (8 * number)
    chosen: list[int] = []
    for index in order:
        if all(abs(index - other) > gap for other in chosen):
            chosen.append(index)
    return chosen[:number]


def _meta(dataset: Any) -> tuple[Sequence[str], Sequence | None]:
    metainfo = dataset.metainfo
    return metainfo['classes'], metainfo.get('palette')
