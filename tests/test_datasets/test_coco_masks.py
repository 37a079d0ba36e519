from __future__ import annotations

import numpy as np
import pytest
from builders.coco import annotation, content

from mmscope.datasets import DatasetLayoutError
from mmscope.datasets.coco_masks import (
    check_masks,
    run_total,
    without_polygon,
)


def refused(*args, **options):
    with pytest.raises(DatasetLayoutError) as error:
        check_masks(*args, **options)
    return str(error.value)


def all_used(what):
    return np.ones(len(what['annotations']), bool)


@pytest.mark.parametrize('empty', [[], None, {}])
def test_absent_masks_say_how_to_train_boxes_alone(empty):
    what = content(annotation(1), annotation(2, segmentation=empty))
    message = refused(what, all_used(what), 'a.json')
    assert '1 of 2 annotations have no segmentation (annotation id 2)' in (
        message
    )
    for change in ('with_mask=False', "metric='bbox'", 'mask_head=None'):
        assert change in message
    check_masks(what, np.array([True, False]), 'a.json')
    del what['annotations'][1]['segmentation']
    assert 'annotation id 2' in refused(what, all_used(what), 'a.json')


def test_an_rle_of_another_size_is_refused():
    rle = {'size': [64, 48], 'counts': [64 * 48]}
    what = content(annotation(1), annotation(2, segmentation=rle))
    message = refused(what, all_used(what), 'a.json')
    assert 'annotation id 2: its RLE is [64, 48] (height, width)' in message
    assert 'its image [48, 64]' in message
    rle['size'] = [48, 64]
    check_masks(what, all_used(what), 'a.json')


def test_polygons_of_less_than_three_points_are_counted():
    odd = [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7]]
    what = content(
        annotation(1),
        annotation(2, segmentation=odd),
        annotation(3, segmentation=[[1, 2], [1, 2, 3, 4, 5, 6]]),
        annotation(4, segmentation={'size': [48, 64], 'counts': 'a'}),
    )
    assert without_polygon(what, all_used(what)) == [2]
    assert without_polygon(what, ~all_used(what)) == []


@pytest.mark.parametrize('counts', [[5, 5], [5, 48 * 64], [], 'zz', 'P', '`'])
def test_runs_that_do_not_fill_the_image_are_refused(counts):
    """pycocotools' IoU never ends on the first one."""
    rle = {'size': [48, 64], 'counts': counts}
    what = content(annotation(1), annotation(2, segmentation=rle))
    message = refused(what, all_used(what), 'a.json')
    assert 'a.json: 1 masks cannot be drawn, first annotation id 2' in message
    assert 'expected runs that add up to 48 x 64 = 3,072' in message
    check_masks(what, np.array([True, False]), 'a.json')


@pytest.mark.parametrize('seed', range(20))
def test_packed_runs_add_up_as_pycocotools_unpacks_them(seed):
    mask = pytest.importorskip('pycocotools.mask', reason='needs pycocotools')
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 300, 2))
    share = rng.random() ** 4
    region = np.asfortranarray(rng.random(size) < share, dtype=np.uint8)
    if seed % 3 == 0:
        region[: size[0] // 2] = 1
    packed = mask.encode(region)['counts'].decode()
    assert run_total(packed) == region.size
    assert run_total([3, 4]) == 7


@pytest.mark.parametrize(
    'parts',
    [
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[]],
    ],
)
def test_a_polygon_of_two_points_cannot_be_scored(parts):
    """pycocotools takes four numbers for a box, after the last image."""
    what = content(annotation(1), annotation(2, segmentation=parts))
    check_masks(what, all_used(what), 'a.json')
    message = refused(what, all_used(what), 'a.json', scored=True)
    assert 'annotation id 2: its polygon has' in message
    assert 'at least three points' in message
