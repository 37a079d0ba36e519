"""Pictures show what the views hold, where it is."""

import numpy as np
import pytest

matplotlib = pytest.importorskip('matplotlib', reason='pictures need it')

from mmscope.visualization import (  # noqa: E402
    ScopeView,
    exit_gallery,
    save,
    scope_figure,
)
from mmscope.visualization.style import (  # noqa: E402
    UNLABELLED,
    class_legend,
    class_palette,
    colour_labels,
)

CLASSES = ('sky', 'road', 'tree')


def view(name='street', exited=False, **changes):
    rng = np.random.default_rng(0)
    refined = np.zeros((2, 3), dtype=bool)
    if not exited:
        refined[0, 1] = refined[1, 1] = True
    spec = {
        'name': name,
        'image': rng.integers(0, 255, (50, 90, 3), dtype=np.uint8),
        'importance': rng.random((2, 3)),
        'refined': refined,
        'prediction': rng.integers(0, 2, (100, 180)),
        'label': rng.integers(0, 2, (100, 180)),
        'exited': exited,
        'confidence': 0.875,
        # The image is 50 x 90, the canvas was padded to 64 x 96.
        'canvas': (64, 96),
    }
    return ScopeView(**{**spec, **changes})


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text)]


def test_five_titled_panels_an_image_and_one_legend():
    figure = scope_figure([view(), view('lane', exited=True)], CLASSES)
    assert len(panels(figure)) >= 10
    for title in (
        'image',
        'token importance',
        'refined regions',
        'prediction',
        'ground truth',
    ):
        assert texts(figure).count(title) == 1
    (legend,) = figure.legends
    # 'tree' is neither predicted nor true here.
    assert [t.get_text() for t in legend.get_texts()] == ['sky', 'road']


def test_labels_say_who_exits_and_how_sure_the_model_was():
    figure = scope_figure([view(), view('lane', exited=True)], CLASSES)
    labels = '\n'.join(texts(figure))
    assert '2 of 6 refined\nconfidence 0.8750' in labels
    assert 'exits early\nconfidence 0.8750' in labels
    assert 'nothing refined' in labels


def test_other_importances_stand_before_the_one_that_decided():
    others = {'detail': np.eye(2, 3), 'l2_norm': np.zeros((2, 3))}
    figure = scope_figure([view(others=others, threshold=0.9)], CLASSES)
    titles = [axes.get_title() for axes in panels(figure)]
    assert titles[:5] == [
        'image',
        'lost by halving',
        'l2_norm',
        'token importance',
        'refined regions',
    ]
    assert 'exit threshold 0.9' in texts(figure)
    drawn = panels(figure)[1].images[1].get_array()
    assert {drawn[0, 0], drawn[1, 1]} == {0.8, 1.0}


def test_no_ground_truth_no_panel():
    figure = scope_figure([view(label=None)], CLASSES)
    assert 'ground truth' not in texts(figure)


def test_every_panel_covers_the_image_and_not_the_padding():
    for axes in panels(scope_figure([view()], CLASSES))[:5]:
        assert axes.get_xlim() == (0, 90)
        assert axes.get_ylim() == (50, 0)


def test_regions_lie_where_they_were_on_the_padded_canvas():
    (overlay,) = [
        axes
        for axes in scope_figure([view()], CLASSES).axes
        if axes.get_title() == 'refined regions'
    ]
    (lines,) = overlay.collections
    points = np.concatenate(lines.get_segments())
    # Column 1 of 3 on a canvas 96 pixels wide, both rows of 64.
    assert points[:, 0].min() == 32
    assert points[:, 0].max() == 64
    assert points[:, 1].max() == 64
    veil = overlay.images[-1]
    assert (veil.get_array()[..., 3] == 0).tolist() == view().refined.tolist()
    assert list(veil.get_extent()) == [0, 96, 64, 0]
    assert list(overlay.images[0].get_extent()) == [0, 90, 50, 0]


def test_importance_covers_the_padded_canvas_too():
    (heat,) = [
        axes.images[-1]
        for axes in scope_figure([view()], CLASSES).axes
        if axes.get_title() == 'token importance'
    ]
    assert list(heat.get_extent()) == [0, 96, 64, 0]
    # Colours follow the ranking: an outlier does not darken the others.
    importance = view().importance
    order = importance.ravel().argsort()
    shown = np.asarray(heat.get_array()).ravel()
    assert shown[order] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


def test_gallery_shows_both_groups_with_notes():
    figure = exit_gallery(
        [view('a', exited=True)],
        [view('b'), view('c')],
        CLASSES,
        notes={'b': 'refining: +2.0 mIoU'},
    )
    shown = '\n'.join(texts(figure))
    assert 'most confident' in shown
    assert 'least confident' in shown
    assert '2 of 6 refined, confidence 0.8750\nrefining: +2.0 mIoU' in shown


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match='no image'):
        scope_figure([], CLASSES)
    with pytest.raises(ValueError, match='no image'):
        exit_gallery([], [], CLASSES)


def test_figures_are_written_without_a_display(tmp_path):
    path = save(scope_figure([view()], CLASSES), tmp_path / 'new' / 'a.png')
    pixels = matplotlib.image.imread(path)
    assert pixels.std() > 0.1


def test_unlabelled_pixels_get_their_own_colour():
    palette = class_palette(3)
    painted = colour_labels(np.array([[0, 2, 255, -1]]), palette)
    assert (painted[0, 1] == palette[2]).all()
    assert painted[0, 2].tolist() == list(UNLABELLED)
    assert painted[0, 3].tolist() == list(UNLABELLED)
    handles = class_legend(CLASSES, palette, [np.array([[2, 255]])])
    assert [h.get_label() for h in handles] == ['tree', 'unlabelled']


def test_spread_colours_differ_and_a_short_palette_is_refused():
    colours = class_palette(150)
    assert len(np.unique(colours, axis=0)) == 150
    with pytest.raises(ValueError, match='2 colours for 3'):
        class_palette(3, [[0, 0, 0], [9, 9, 9]])


def test_legend_keeps_the_largest_classes():
    labels = np.repeat(np.arange(6), [5, 1, 9, 2, 8, 7])
    handles = class_legend('abcdef', class_palette(6), [labels], most=3)
    assert [h.get_label() for h in handles] == ['c', 'e', 'f']
