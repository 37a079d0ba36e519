"""Views of a detector: everything in pixels of what the model saw."""

import os

import numpy as np
import pytest
import torch

pytest.importorskip('matplotlib', reason='pictures need it')
pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')

from mmengine.dataset import pseudo_collate

from mmscope.errors import UserError
from mmscope.evaluation.loading import (
    build_dataloader,
    build_model,
    open_config,
)
from mmscope.models.layers import holding
from mmscope.models.scoping import attach_gate
from mmscope.visualization import predict_views
from mmscope.visualization.forward import check_image


@pytest.fixture
def detector(detector_run):
    cfg = open_config(detector_run.config)
    model = build_model(cfg, detector_run.checkpoint, 'cpu')
    return model, build_dataloader(cfg).dataset, cfg


def test_the_grid_covers_what_the_backbone_was_given(detector):
    model, dataset, _ = detector
    seen = []
    model.backbone.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].shape[-2:])
    )
    (view,) = predict_views(model, dataset, [0])
    # 48 x 64 is resized to 72 x 96 and padded to a square of 128.
    assert view.image.shape == (72, 96, 3)
    assert view.canvas == tuple(seen[0]) == (128, 128)
    assert view.importance.shape == view.refined.shape == (4, 4)


def test_found_boxes_and_masks_are_those_of_the_resized_image(detector):
    model, dataset, _ = detector
    (view,) = predict_views(model, dataset, [0])
    data = model.data_preprocessor(pseudo_collate([dataset[0]]), False)
    with torch.no_grad():
        (sample,) = model.predict(
            data['inputs'], data['data_samples'], rescale=False
        )
    found = view.prediction
    assert len(found) == 10
    np.testing.assert_allclose(
        found.boxes, sample.pred_instances.bboxes.numpy(), atol=1e-3
    )
    assert found.scores == pytest.approx(sample.pred_instances.scores.numpy())
    # Masks keep the resolution of the file.
    assert found.masks.shape == (10, 48, 64)
    assert found.masks.dtype == bool


def test_other_importances_are_shown_and_decide_nothing(detector):
    model, dataset, _ = detector
    (alone,) = predict_views(model, dataset, [0])
    (view,) = predict_views(model, dataset, [0], ['detail', 'max_norm'])
    assert list(view.others) == ['detail', 'max_norm']
    np.testing.assert_array_equal(view.refined, alone.refined)
    np.testing.assert_array_equal(view.others['max_norm'], alone.importance)
    assert (view.others['detail'] != alone.importance).any()
    # What the padding added has nothing to lose.
    assert (view.others['detail'][3] == 0).all()
    assert model.backbone.score_metric == 'max_norm'
    with pytest.raises(ValueError, match="got 'sharpness'"):
        predict_views(model, dataset, [0], ['sharpness'])


def test_with_coverage_other_importances_are_shown_as_well(detector):
    model, dataset, _ = detector
    backbone = model.backbone
    (plain,) = predict_views(model, dataset, [0], ['detail'])
    with holding(backbone, score_metric='detail', refine_coverage=0.9):
        (view,) = predict_views(model, dataset, [0], ['max_norm'])
        assert backbone.refine_coverage == 0.9
    np.testing.assert_array_equal(view.importance, plain.others['detail'])
    np.testing.assert_array_equal(view.others['max_norm'], plain.importance)


def test_a_pipe_is_no_image_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    for path in (tmp_path / 'pipe.png', tmp_path):
        with pytest.raises(UserError, match='cannot be read: it is no file'):
            check_image(path)


@pytest.mark.parametrize('order', ['resize first', 'annotations first'])
def test_true_boxes_lie_on_the_objects(detector, order):
    model, dataset, _ = detector
    if order == 'annotations first':
        steps = dataset.pipeline.transforms
        steps[1], steps[2] = steps[2], steps[1]
    (view,) = predict_views(model, dataset, [0])
    square, bar = view.label.boxes
    assert view.label.labels.tolist() == [0, 1]
    assert square[2:] - square[:2] == pytest.approx(1.5 * 20)
    assert bar[2:] - bar[:2] == pytest.approx(1.5 * np.array([30, 10]))
    # The square is bright where nothing hides it, its surroundings dark.
    left, top, right, bottom = square.round().astype(int)
    grey = view.image.mean(-1)
    inside = np.median(grey[top + 2 : bottom - 2, left + 2 : right - 2])
    assert inside > 150
    outside = np.ones(grey.shape, bool)
    for x0, y0, x1, y1 in view.label.boxes.round().astype(int):
        outside[y0 - 2 : y1 + 2, x0 - 2 : x1 + 2] = False
    assert grey[outside].max() < 150


def test_an_image_without_objects_has_an_empty_truth(detector):
    model, dataset, _ = detector
    (view,) = predict_views(model, dataset, [1])
    assert len(view.label) == 0
    assert view.label.boxes.shape == (0, 4)


def test_crowds_are_not_drawn_as_objects(detector):
    model, dataset, _ = detector
    info = dataset.get_data_info(0)
    info['instances'][0]['ignore_flag'] = 1
    dataset.get_data_info = lambda index: info
    (view,) = predict_views(model, dataset, [0])
    assert view.label.labels.tolist() == [1]


def test_the_threshold_decides_what_is_refined(detector):
    model, dataset, _ = detector
    attach_gate(model, 0.0)
    (exits,) = predict_views(model, dataset, [0])
    attach_gate(model, 2.0)
    (goes_on,) = predict_views(model, dataset, [0])
    assert exits.exited
    assert not exits.refined.any()
    assert not goes_on.exited
    assert (exits.threshold, goes_on.threshold) == (0.0, 2.0)
    # ceil(0.8 * 16) regions.
    assert goes_on.refined.sum() == 13
    assert goes_on.confidence == pytest.approx(exits.confidence)
    assert not np.allclose(goes_on.prediction.boxes, exits.prediction.boxes)


def test_an_index_outside_the_data_is_refused_before_anything_runs(detector):
    model, dataset, _ = detector
    model.test_step = None
    for index in (4, -1):
        with pytest.raises(ValueError, match=f'image {index} .* 0 to 3'):
            predict_views(model, dataset, [0, index])
