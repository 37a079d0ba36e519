"""Test-time augmentation, of the parts that each host has for it."""

from __future__ import annotations

from mmengine.config import Config

from mmscope.errors import UserError

from .config import type_name, walk

# What merges the views of an image.
MERGING = {
    'mmseg': {'type': 'SegTTAModel'},
    'mmpretrain': {'type': 'AverageClsScoreTTA'},
    'mmdet': {
        'type': 'DetTTAModel',
        'tta_cfg': {
            'nms': {'type': 'nms', 'iou_threshold': 0.5},
            'max_per_img': 100,
        },
    },
}


def use_tta(cfg: Config) -> None:
    """Wrap the model and its pipeline for test-time augmentation.

    Every view is an image of its own to a model that exits early: it leaves
    or stays by itself. ``tta_model`` and ``tta_pipeline`` of the config
    count; where they are missing the host merges an image and its mirror.

    Raises:
        UserError: If the model predicts masks of objects.
    """
    if any(key.endswith('mask_head') for key, _ in walk(cfg.model, 'model')):
        raise UserError(
            '--tta merges boxes, and this model predicts masks, too, which '
            'mmdetection cannot merge: leave --tta out, or test a model '
            'without mask_head'
        )
    dataset = cfg.test_dataloader.dataset
    merging = cfg.get('tta_model') or MERGING[cfg.default_scope]
    dataset.pipeline = cfg.get('tta_pipeline') or mirrored(dataset.pipeline)
    cfg.model = {**merging, 'module': cfg.model}


def mirrored(pipeline: list[dict]) -> list[dict]:
    """Let a test pipeline show each image as it is, and mirrored.

    Up to what loads annotations, if anything does, it stays the same:
    predictions are turned back, so annotations are not mirrored.
    """
    *steps, pack = pipeline
    if 'meta_keys' in pack:
        told = ('flip', 'flip_direction')
        pack = {**pack, 'meta_keys': (*pack['meta_keys'], *told)}
    names = [type_name(step) for step in steps]
    start = next(
        (i for i, name in enumerate(names) if name.endswith('Annotations')),
        len(steps),
    )
    flips = [{'type': 'RandomFlip', 'prob': prob} for prob in (0.0, 1.0)]
    views = [flips, *([step] for step in [*steps[start:], pack])]
    return [*steps[:start], {'type': 'TestTimeAug', 'transforms': views}]
