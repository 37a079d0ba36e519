"""Boxes are drawn where they are, as many as the picture says."""

import numpy as np
import pytest

matplotlib = pytest.importorskip('matplotlib', reason='pictures need it')

from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402

from mmscope.visualization import (  # noqa: E402
    Detections,
    ImageClasses,
    ScopeView,
    exit_gallery,
    scope_figure,
)
from mmscope.visualization.style import (  # noqa: E402
    BOX_COLOURS,
    GREEN,
    box_styles,
)

CLASSES = ('cat', 'dog', 'bird')
BOXES = np.array([[10.0, 5.0, 40.0, 30.0], [50.0, 20.0, 80.0, 45.0]])


def found(scores=(0.4, 0.9), labels=(0, 2), **changes):
    spec = {
        'boxes': np.resize(BOXES, (len(scores), 4)),
        'labels': np.resize(labels, len(scores)),
        'scores': np.array(scores),
    }
    return Detections(**{**spec, **changes})


def view(prediction=None, label=None, name='a', **changes):
    refined = np.zeros((2, 3), dtype=bool)
    refined[0, 1] = True
    spec = {
        'name': name,
        'image': np.full((50, 90, 3), 128, np.uint8),
        'importance': np.arange(6.0).reshape(2, 3),
        'refined': refined,
        'prediction': found() if prediction is None else prediction,
        'label': label,
        'exited': False,
        'confidence': 0.5,
        # 50 x 90 pixels on a canvas of 64 x 96.
        'canvas': (64, 96),
    }
    return ScopeView(**{**spec, **changes})


def panel(figure, title):
    (axes,) = [axes for axes in figure.axes if axes.get_title() == title]
    return axes


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text)]


def corners(patch):
    return [*patch.get_xy(), *np.add(patch.get_xy(), patch_size(patch))]


def patch_size(patch):
    return patch.get_width(), patch.get_height()


def test_found_and_true_boxes_lie_where_they_are():
    truth = Detections(BOXES[:1] + 1, np.array([1]))
    figure = scope_figure([view(label=truth)], CLASSES)
    shown = [corners(p) for p in panel(figure, 'detections').patches]
    # The surest is drawn last, on top.
    assert shown == BOXES.tolist()
    (true,) = panel(figure, 'ground truth').patches
    assert corners(true) == (BOXES[0] + 1).tolist()
    for title in ('detections', 'ground truth'):
        assert panel(figure, title).get_xlim() == (0, 90)
        assert panel(figure, title).get_ylim() == (50, 0)


def test_boxes_and_regions_land_on_the_same_pixels_of_the_file():
    # A found box of exactly the region that is refined.
    box = np.array([[32.0, 0.0, 64.0, 32.0]])
    figure = scope_figure(
        [view(found(scores=(0.9,), boxes=box))], CLASSES, panel_width=2.0
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    wanted = {'detections': BOX_COLOURS[0], 'refined regions': GREEN}
    for title, colour in wanted.items():
        axes = panel(figure, title)
        for x, y in [(32, 16), (64, 16), (48, 32)]:
            column, row = axes.transData.transform((x, y))
            row = len(pixels) - row
            spot = pixels[int(row) - 1 : int(row) + 2]
            spot = spot[:, int(column) - 1 : int(column) + 2].reshape(-1, 3)
            distance = np.abs(spot - 255 * np.array(to_rgb(colour))).max(1)
            assert distance.min() < 40, (title, x, y)


def test_the_least_score_is_stated_and_kept():
    figure = scope_figure([view()], CLASSES, score_thr=0.5)
    axes = panel(figure, 'detections')
    assert axes.get_xlabel() == 'score at least 0.5'
    assert [corners(p) for p in axes.patches] == BOXES[1:].tolist()
    assert '1 found' in '\n'.join(texts(figure))


@pytest.mark.parametrize(
    ('threshold', 'said'),
    [(0.84127, 'exit threshold 0.8413'), (2.0, ''), (None, '')],
)
def test_the_threshold_that_decided_is_stated(threshold, said):
    figure = scope_figure([view(threshold=threshold)], CLASSES)
    assert panel(figure, 'refined regions').get_xlabel() == said


def test_at_most_twenty_boxes_and_the_row_says_so():
    scores = np.linspace(0.31, 0.99, 25)
    figure = scope_figure([view(found(scores))], CLASSES)
    axes = panel(figure, 'detections')
    assert len(axes.patches) == 20
    # Their scores, the surest on top; the five least sure are missing.
    written = [float(t.get_text()) for t in axes.texts]
    assert written == sorted(written)
    assert written[0] == pytest.approx(scores[5], abs=0.006)
    assert '25 found,\nbest 20 drawn' in '\n'.join(texts(figure))


def test_small_panels_have_no_scores():
    figure = scope_figure([view()], CLASSES, panel_width=1.6)
    axes = panel(figure, 'detections')
    assert len(axes.patches) == 2
    assert not axes.texts


def test_a_class_has_one_colour_everywhere_and_unseen_ones_have_none():
    truth = Detections(BOXES, np.array([2, 0]))
    figure = scope_figure([view(label=truth)], CLASSES)
    cat, bird = (
        panel(figure, 'detections').patches[index].get_edgecolor()
        for index in (0, 1)
    )
    assert cat != bird
    true = panel(figure, 'ground truth').patches
    # Reversed: the first true box is drawn last.
    assert [p.get_edgecolor() for p in true] == [cat, bird]
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ['cat', 'bird']
    entries = [to_rgb(line.get_color()) for line in legend.get_lines()]
    assert entries == [cat[:3], bird[:3]]


def test_many_classes_differ_by_colour_or_line():
    styles = box_styles(range(40, 55))
    looks = {(s['edgecolor'], s['linestyle']) for s in styles.values()}
    assert len(looks) == 15
    assert GREEN not in {s['edgecolor'] for s in styles.values()}


def test_masks_cover_the_picture_at_their_own_resolution():
    masks = np.zeros((2, 100, 180), dtype=bool)
    masks[1, 40:90, 100:160] = True
    figure = scope_figure([view(found(masks=masks))], CLASSES, score_thr=0.5)
    axes = panel(figure, 'detections')
    shade = axes.images[-1]
    assert ((shade.get_array()[..., 3] > 0) == masks[1]).all()
    assert list(shade.get_extent()) == [0, 90, 50, 0]
    assert len(axes.images) == 2


def test_nothing_found_is_a_picture_too():
    nothing = found(scores=(), labels=())
    truth = Detections(np.zeros((0, 4)), np.zeros(0, int))
    figure = scope_figure([view(nothing, truth)], CLASSES)
    assert not panel(figure, 'detections').patches
    assert '0 found' in '\n'.join(texts(figure))
    assert not figure.legends


def test_a_class_of_the_whole_image_is_written_beside_it():
    right = view(ImageClasses([1], [0.875]), ImageClasses([1]), 'right')
    wrong = view(ImageClasses([0], [0.625]), ImageClasses([2]), 'wrong')
    figure = scope_figure([right, wrong], CLASSES)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ['image', 'token importance', 'refined regions']
    shown = '\n'.join(texts(figure))
    assert 'dog 0.88' in shown
    assert 'cat 0.62\ntrue: bird' in shown
    assert shown.count('true:') == 1
    gallery = exit_gallery([right], [wrong], CLASSES)
    assert len([axes for axes in gallery.axes if axes.images]) == 2


def test_a_gallery_shows_boxes():
    figure = exit_gallery([view(name='a')], [view(name='b')], CLASSES)
    boxes = [axes for axes in figure.axes if len(axes.patches) == 2]
    assert len(boxes) == 2
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ['cat', 'bird']
