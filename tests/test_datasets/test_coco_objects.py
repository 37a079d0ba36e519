from __future__ import annotations

import math

import numpy as np
import pytest
from builders.coco import annotation, content

from mmscope.datasets.coco_objects import (
    REASONS,
    describe,
    left_out,
    num_left_out,
    sort_annotations,
)

NAN, INF = math.nan, math.inf
GOOD = annotation(1)


def sorted_out(what, cat_ids=(1, 2)):
    return sort_annotations(what, cat_ids)


@pytest.mark.parametrize(
    ('bad', 'reason'),
    [
        (annotation(9, image=7), 'orphan'),
        (annotation(9, category=77), 'unknown'),
        (annotation(9, category=2), 'unused'),
        (annotation(9, ignore=1), 'ignore'),
        (annotation(9, (NAN, 4, 20, 10)), 'not_finite'),
        (annotation(9, (4, 4, INF, 10)), 'not_finite'),
        (annotation(9, (4, 4, None, 10)), 'not_finite'),
        (annotation(9, area=NAN), 'not_finite'),
        (annotation(9, (4, 4, 0, 10)), 'no_area'),
        (annotation(9, (14, 4, -8, 10)), 'no_area'),
        (annotation(9, (4, 4, 0.9, 10)), 'no_area'),
        (annotation(9, area=0), 'no_area'),
        (annotation(9, (64, 4, 20, 10)), 'outside'),
        (annotation(9, (4, -30, 20, 30)), 'outside'),
        (annotation(9, (50, 4, 20, 10)), 'clipped'),
        (annotation(9, (-3, 4, 20, 10)), 'clipped'),
    ],
)
def test_every_kind_is_counted_once_with_its_annotation(bad, reason):
    what = content(GOOD, bad)
    found = sorted_out(what, cat_ids=[1])
    assert {key: rows.tolist() for key, rows in found.items()} == {
        key: [1] if key == reason else [] for key in (*REASONS, 'clipped')
    }
    kept = reason == 'clipped'
    assert num_left_out(found) == (0 if kept else 1)
    assert left_out(found, 2).tolist() == [False, not kept]
    text = describe(found, what)
    assert 'annotation id 9' in text
    assert ('clipped' if kept else REASONS[reason]) in text


def test_the_first_three_of_a_kind_are_named():
    bad = [annotation(i, (4, 4, 0, 10)) for i in range(5, 10)]
    what = content(GOOD, *bad)
    text = describe(sorted_out(what), what)
    assert 'left out 5 of 6 annotations: 5 with a box' in text
    assert '(annotation id 5, 6, 7, ...)' in text


def test_good_boxes_say_nothing():
    # Up to the border, and rounded over it.
    what = content(
        GOOD, annotation(2, (0, 0, 64, 48)), annotation(3, (60, 4, 4.9, 9))
    )
    found = sorted_out(what)
    assert num_left_out(found) == 0
    assert describe(found, what) == ''
    assert describe(sorted_out({**what, 'annotations': []}), what) == ''


def test_the_first_reason_counts():
    what = content(annotation(4, (NAN, 0, 0, 0), image=7, category=77))
    found = sorted_out(what)
    assert [key for key, rows in found.items() if len(rows)] == ['orphan']


def test_corners_instead_of_sizes_are_suspected():
    corners = [(10, 10, 60, 40), (30, 20, 60, 47), (50, 5, 63, 40)]
    what = content(*(annotation(i, box) for i, box in enumerate(corners)))
    assert 'a sign of boxes as x1, y1, x2, y2' in describe(
        sorted_out(what), what
    )


def test_fractions_instead_of_pixels_are_suspected():
    boxes = [(0.1, 0.1, 0.5, 0.5), (0.2, 0.3, 0.4, 0.4)]
    what = content(*(annotation(i, box) for i, box in enumerate(boxes)))
    assert 'coordinates from 0 to 1' in describe(sorted_out(what), what)


def test_text_ids_against_numbers_are_suspected():
    what = content(annotation(1, image='0'), annotation(2, image='1'))
    assert 'are ids text in one list' in describe(sorted_out(what), what)


def test_the_host_leaves_out_the_same(tmp_path):
    """Against mmdet itself, over boxes of every kind."""
    pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
    from builders.coco import CLASSES, write
    from mmdet.datasets import CocoDataset

    rng = np.random.default_rng(0)
    corners = rng.integers(-40, 80, (300, 2))
    sizes = rng.integers(-2, 50, (300, 2)) * rng.choice([1.0, 0.3], (300, 1))
    what = content(
        *(
            annotation(i, [*map(float, c), *map(float, s)], image=i % 2)
            for i, (c, s) in enumerate(zip(corners, sizes, strict=True))
        )
    )
    for row in what['annotations'][::7]:
        row['area'] = 0
    host = CocoDataset(
        ann_file=str(write(tmp_path / 'a.json', what)),
        metainfo={'classes': CLASSES},
        data_prefix={'img': ''},
        serialize_data=False,
        pipeline=[],
    )
    kept = [i['bbox'] for info in host.data_list for i in info['instances']]
    free = ~left_out(sorted_out(what), 300)
    x, y, w, h = np.array([a['bbox'] for a in what['annotations']])[free].T
    assert 50 < free.sum() < 250
    assert sorted(kept) == sorted(
        map(list, zip(x, y, x + w, y + h, strict=True))
    )
