from functools import partial
from types import SimpleNamespace

import pytest
import torch

from mmscope.models import losses

from .test_early_exit import Sample, seg_sample

cell_targets = partial(losses.cell_targets, ignored=255)


def box_sample(boxes, labels):
    found = SimpleNamespace(
        bboxes=torch.tensor(boxes).float().view(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
    )
    return Sample(gt_instances=found)


LABELS = [
    [0, 0, 1, 255],
    [0, 1, 255, 255],
    [255, 255, 2, 2],
    [255, 255, 2, 2],
]


def test_cells_are_shared_among_their_labelled_pixels():
    found = cell_targets([seg_sample([LABELS])], (2, 2), 2, 3, False)
    assert found.shape == (1, 4, 3)
    assert found[0, 0].tolist() == [0.75, 0.25, 0]
    # Ignored pixels do not count, and a cell of nothing else is unknown.
    assert found[0, 1].tolist() == [0, 1, 0]
    assert found[0, 2].isnan().all()
    assert found[0, 3].tolist() == [0, 0, 1]


def test_padding_of_the_grid_is_unknown():
    found = cell_targets([seg_sample([LABELS])], (2, 3), 2, 3, False)
    assert found[0, [2, 5]].isnan().all()
    assert found[0, 0].tolist() == [0.75, 0.25, 0]


def test_labels_of_another_size_than_the_input_fall_in_the_same_cells():
    large = torch.tensor(LABELS).repeat_interleave(3, 0)
    large = seg_sample([large.repeat_interleave(2, 1).tolist()])
    same = cell_targets([seg_sample([LABELS])], (2, 2), 2, 3, False)
    found = cell_targets([large], (2, 2), 2, 3, False, [(1 / 3, 1 / 2)])
    assert torch.equal(found.nan_to_num(-1), same.nan_to_num(-1))


def test_cells_are_shared_among_boxes_and_nothing():
    # A large box of class 1 behind a small one of class 0.
    sample = box_sample([[2, 0, 3, 2], [0, 0, 4, 2]], [0, 1])
    found = cell_targets([sample], (2, 2), 2, 2, True)
    assert found[0].tolist() == [[0, 1, 0], [0.5, 0.5, 0], [0, 0, 1]] + [
        [0, 0, 1]
    ]


def test_no_box_is_nothing_everywhere():
    found = cell_targets([box_sample([], [])], (1, 2), 4, 2, True)
    assert found[0].tolist() == [[0, 0, 1]] * 2


def test_boxes_of_the_original_image_are_brought_to_the_input():
    sample = box_sample([[0, 0, 2, 4]], [0])
    found = cell_targets([sample], (1, 2), 4, 1, True, [(1.0, 2.0)])
    assert found[0].tolist() == [[1, 0], [0, 1]]


def test_the_other_kind_of_annotation_is_named():
    boxes, labels = box_sample([], []), seg_sample([LABELS])
    with pytest.raises(ValueError, match='map_nothing=True'):
        cell_targets([boxes], (2, 2), 2, 3, False)
    with pytest.raises(ValueError, match='map_nothing=False'):
        cell_targets([labels], (2, 2), 2, 3, True)


def test_labels_outside_the_classes_are_named():
    with pytest.raises(ValueError, match='num_classes=2'):
        cell_targets([seg_sample([LABELS])], (2, 2), 2, 2, False)
    with pytest.raises(ValueError, match='num_classes=2'):
        cell_targets([box_sample([[0, 0, 1, 1]], [2])], (1, 1), 2, 2, True)


@pytest.mark.parametrize('ignored', [0, 3, -1, 300])
def test_cells_count_all_but_the_label_that_the_host_ignores(ignored):
    classes = 300
    known = 299
    sample = seg_sample([[[ignored, known], [known, 255]]])
    found = losses.cell_targets(
        [sample], (1, 1), 2, classes, False, ignored=ignored
    )
    wanted = torch.zeros(1, 1, classes)
    wanted[..., [known, 255]] = torch.tensor([2 / 3, 1 / 3])
    assert torch.allclose(found, wanted)


def test_boxes_count_where_a_detector_has_a_map_as_well():
    sample = box_sample([[0, 0, 2, 2]], [1])
    sample.gt_sem_seg = SimpleNamespace(sem_seg=torch.full((1, 2, 2), 170))
    found = cell_targets([sample], (1, 1), 2, 2, True)
    assert found[0].tolist() == [[0, 1, 0]]
