"""Panels of stages show what the record says, where the patches are."""

import numpy as np
import pytest

matplotlib = pytest.importorskip('matplotlib', reason='pictures need it')

from mmscope.visualization import (  # noqa: E402
    ImageClasses,
    ReductionView,
    StageView,
    reduction_figure,
)
from mmscope.visualization.reduction import shown_stages  # noqa: E402
from mmscope.visualization.regions import merged_labels  # noqa: E402

CLASSES = ('cat', 'dog')
# The patches of groups 1 and 4 lie apart; 0, 2 and 3 stand alone.
GROUPS = np.array([[0, 1, 2], [4, 1, 3], [1, 4, 5], [6, 7, 8]])
KEPT = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 1], [0, 0, 0]], bool)


def view(stages=(), **changes):
    rng = np.random.default_rng(0)
    spec = {
        'name': 'pet',
        # The image is 50 x 90; 4 x 3 patches cover 64 x 96.
        'image': rng.integers(0, 255, (50, 90, 3), dtype=np.uint8),
        'prediction': ImageClasses([1], [0.75]),
        'label': ImageClasses([0]),
        'canvas': (64, 96),
        'tokens': 13,
        'stages': list(stages),
    }
    return ReductionView(**{**spec, **changes})


def merged(tokens=9, groups=GROUPS):
    return StageView(tokens=tokens, groups=groups)


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text)]


def test_pruned_patches_are_veiled_and_the_others_outlined():
    stage = StageView(tokens=5, kept=KEPT)
    _, axes = panels(reduction_figure([view([stage])], CLASSES))
    photo, veil = axes.images
    assert axes.get_title() == 'kept patches'
    assert (veil.get_array()[..., 3] == 0).tolist() == KEPT.tolist()
    assert list(veil.get_extent()) == [0, 96, 64, 0]
    assert list(photo.get_extent()) == [0, 90, 50, 0]
    assert axes.get_xlim() == (0, 90)
    assert axes.get_ylim() == (50, 0)
    (lines,) = axes.collections
    points = np.concatenate(lines.get_segments())
    # Rows 0 to 2 of 16 pixels, columns of 32.
    assert points.min(0).tolist() == [0, 0]
    assert points.max(0).tolist() == [96, 48]


def test_a_group_has_one_colour_and_lone_patches_have_none():
    _, axes = panels(reduction_figure([view([merged()])], CLASSES))
    tint = np.asarray(axes.images[1].get_array())
    shared = np.array([[0, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 0]], bool)
    assert axes.get_title() == 'merged patches'
    assert ((tint[..., 3] > 0) == shared).all()
    first, second = tint[GROUPS == 1], tint[GROUPS == 4]
    assert (first == first[0]).all()
    assert (second == second[0]).all()
    assert np.abs(first[0] - second[0]).max() > 0.1
    assert list(axes.images[1].get_extent()) == [0, 96, 64, 0]


def test_merged_patches_are_grey_below_their_colour_and_others_the_photo():
    shown = view([merged()])
    _, axes = panels(reduction_figure([shown], CLASSES))
    below = np.asarray(axes.images[0].get_array())
    assert below.shape == shown.image.shape
    colourful = (below != below[..., :1]).any(-1)
    # Patch (0, 1) covers rows 0 to 16 and columns 32 to 64.
    assert not colourful[:16, 32:64].any()
    assert not colourful[16:48, :64].any()
    for lone in (np.s_[:16, :32], np.s_[:48, 64:], np.s_[48:]):
        assert (below[lone] == shown.image[lone]).all()


def test_a_group_that_grows_by_later_patches_keeps_its_colour():
    later = np.array([[0, 1, 2], [3, 1, 2], [1, 3, 1], [4, 5, 6]])
    figure = reduction_figure([view([merged(), merged(7, later)])], CLASSES)
    _, before, after = panels(figure)
    tints = [
        np.asarray(axes.images[1].get_array()) for axes in (before, after)
    ]
    assert (tints[0][0, 1] == tints[1][0, 1]).all()
    assert tints[1][2, 2].tolist() == tints[1][0, 1].tolist()


def test_borders_run_between_groups_and_not_within_them():
    groups = np.array([[0, 0, 1, 1], [2, 2, 3, 4]])
    labels = merged_labels(groups)
    assert labels.tolist() == [[1, 1, 3, 3], [5, 5, 0, 0]]
    shown = view([merged(6, groups)], canvas=(32, 96))
    shown.image = shown.image[:30]
    _, axes = panels(reduction_figure([shown], CLASSES))
    found = {tuple(map(tuple, x)) for x in axes.collections[0].get_segments()}
    assert ((48, 0), (48, 16)) in found
    assert ((0, 16), (24, 16)) in found
    assert ((24, 0), (24, 16)) not in found
    # Nobody was merged on either side.
    assert ((72, 16), (72, 32)) not in found


def test_labels_tell_tokens_directions_prediction_and_truth():
    stages = [StageView(tokens=8, kept=KEPT), StageView(tokens=5, kept=KEPT)]
    figure = reduction_figure([view(stages, directions=(30, 48))], CLASSES)
    label = panels(figure)[0].get_ylabel()
    assert '5 of 13 tokens left\n30 of 48 directions' in label
    assert 'dog 0.75\ntrue: cat' in label
    below = [axes.get_xlabel() for axes in panels(figure)[1:]]
    assert below == [
        'stage 1 of 2\n8 of 13 tokens',
        'stage 2 of 2\n5 of 13 tokens',
    ]


def test_of_many_stages_the_first_the_last_and_two_between_are_drawn():
    stages = [merged(20 - n) for n in range(11)]
    figure = reduction_figure([view(stages), view(stages[:3])], CLASSES)
    below = [text for text in texts(figure) if text.startswith('stage')]
    assert [text.split('\n')[0] for text in below] == [
        *(f'stage {n} of 11' for n in (1, 4, 8, 11)),
        # An image that went through fewer has its own.
        *(f'stage {n} of 3' for n in (1, 2, 3)),
    ]
    assert below[3].endswith('10 of 13 tokens')
    assert [shown_stages(n) for n in (0, 1, 4, 5)] == [
        [],
        [0],
        [0, 1, 2, 3],
        [0, 1, 3, 4],
    ]


def test_label_maps_stand_beside_the_stages():
    labels = np.zeros((50, 90), int)
    shown = view([merged()], prediction=labels, label=labels)
    figure = reduction_figure([shown], CLASSES)
    titles = [axes.get_title() for axes in panels(figure)]
    assert titles == ['image', 'merged patches', 'prediction', 'ground truth']


def test_nothing_reduced_is_the_image_alone():
    (axes,) = panels(reduction_figure([view()], CLASSES))
    assert '13 of 13 tokens left' in axes.get_ylabel()
    with pytest.raises(ValueError, match='no image'):
        reduction_figure([], CLASSES)
