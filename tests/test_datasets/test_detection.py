"""mmdet's COCO data set with the checks of mmscope in front."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from builders.coco import CLASSES, annotation, content, write
from PIL import Image

pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
from mmdet.datasets import CocoDataset
from mmengine.registry import DefaultScope

from mmscope.datasets import (
    BrokenImageError,
    CocoDetectionDataset,
    DatasetLayoutError,
)
from mmscope.datasets.checked import without_samples
from mmscope.datasets.full_check import check_all
from mmscope.registry import DATASETS

LOAD = {'type': 'LoadImageFromFile'}
RESIZE = {'type': 'Resize', 'scale': (64, 64), 'keep_ratio': True}


def objects(with_mask=True):
    return {
        'type': 'LoadAnnotations',
        'with_bbox': True,
        'with_mask': with_mask,
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'images').mkdir()
    for i in range(4):
        Image.new('RGB', (64, 48), (90, 60, i)).save(
            tmp_path / 'images' / f'{i}.png'
        )
    return tmp_path


def build(root, what=None, host=CocoDetectionDataset, **options):
    if what is not None:
        write(root / 'a.json', what)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return host(
            **{
                'data_root': str(root),
                'ann_file': 'a.json',
                'data_prefix': {'img': 'images/'},
                'metainfo': {'classes': CLASSES},
                'pipeline': [LOAD, objects(), {'type': 'PackDetInputs'}],
                'serialize_data': False,
                **options,
            }
        )


def refused(*args, **options):
    with pytest.raises(DatasetLayoutError) as error:
        build(*args, **options)
    return str(error.value)


def test_it_is_registered_and_the_host_s_own_is_untouched():
    assert DATASETS.get('mmscope.CocoDetectionDataset') is CocoDetectionDataset
    with DefaultScope.overwrite_default_scope('mmdet'):
        assert DATASETS.get('mmdet.CocoDataset') is CocoDataset


@pytest.mark.parametrize('test_mode', [True, False])
def test_a_good_file_gives_what_the_host_gives_without_a_word(
    folder, said, test_mode
):
    what = content(annotation(4), annotation(2, image=1, category=2))
    options = {'test_mode': test_mode, 'filter_cfg': {'filter_empty_gt': 1}}
    ours = build(folder, what, **options)
    theirs = build(folder, host=CocoDataset, **options)
    assert ours.data_list == theirs.data_list
    assert len(ours) == 2
    assert ours.cat2label == theirs.cat2label
    assert ours.COCOAPI is theirs.COCOAPI
    assert not said.text


@pytest.mark.parametrize(
    ('what', 'options', 'message'),
    [
        (None, {}, 'a.json does not exist'),
        ('{"images"', {}, 'no valid JSON'),
        (content(classes=('ant',)), {}, 'lacks 2 of the 2 classes'),
        (content(), {'metainfo': None}, 'lacks 80 of the 80 classes'),
        (content(classes=CLASSES[::-1]), {}, 'in another order'),
        (content(), {'data_prefix': {'img': 'no/'}}, 'no does not exist'),
        (content(), {'data_prefix': {}}, "data_prefix=dict.img='FOLDER/'"),
        (content(num_images=9), {}, '5 of 9 images that were looked for'),
        (content(size=(64, 48)), {}, 'is 64 x 48 .* says 48 x 64'),
        (content(annotation(1, segmentation=[])), {}, 'no segmentation'),
        (content(annotation(1), annotation(1)), {}, 'more than once'),
        (content(annotation(1, image='0')), {}, 'nothing to train on'),
    ],
)
def test_what_is_wrong_is_said_when_the_data_set_is_built(
    folder, what, options, message
):
    with pytest.raises(DatasetLayoutError, match=message):
        build(folder, what, **options)


def test_a_lazy_data_set_is_checked_when_it_loads(folder):
    lazy = build(folder, content(classes=('ant',)), lazy_init=True)
    with pytest.raises(DatasetLayoutError, match='lacks 2 of the 2'):
        lazy.full_init()


def test_boxes_alone_need_no_masks(folder):
    what = content(annotation(1, segmentation=[]))
    pipeline = [LOAD, objects(with_mask=False), {'type': 'PackDetInputs'}]
    sample = build(folder, what, pipeline=pipeline)[0]['data_samples']
    assert len(sample.gt_instances) == 1


BAD = [
    annotation(5, (64, 4, 20, 10)),
    annotation(6, (4, 4, 0, 10)),
    annotation(7, (math.nan, 4, 20, 10)),
    annotation(8, (4, 4, math.inf, 10)),
]


@pytest.mark.parametrize('test_mode', [True, False])
def test_left_out_boxes_are_one_warning_with_counts_and_examples(
    folder, said, test_mode
):
    what = content(annotation(4), *BAD, annotation(9, (50, 4, 20, 10)))
    data = build(folder, what, test_mode=test_mode)
    boxes = [i['bbox'] for i in data.get_data_info(0)['instances']]
    assert boxes == [[4, 4, 24, 14], [50, 4, 70, 14]]
    (record,) = said.records
    text = record.getMessage()
    assert 'left out 4 of 6 annotations: 2 with NaN' in text
    assert '(annotation id 7, 8)' in text
    assert '1 with a box wholly outside' in text
    assert 'reach out of their image and are clipped: 1' in text
    assert ('counts boxes that are left out' in text) is test_mode


def test_strict_refuses_what_would_be_left_out(folder, said):
    message = refused(folder, content(annotation(4), *BAD), strict=True)
    assert 'left out 4 of 5 annotations' in message
    clipped = content(annotation(9, (50, 4, 20, 10)))
    assert len(build(folder, clipped, strict=True)) == 2
    assert 'are clipped' in said.text


def test_a_file_of_unusable_boxes_trains_on_nothing_and_is_refused(folder):
    assert 'nothing to train on: left out 4' in refused(folder, content(*BAD))
    assert len(build(folder, content(*BAD), test_mode=True)) == 2


def test_crowds_alone_are_nothing_to_train_on(folder):
    what = content(annotation(1, iscrowd=1), annotation(2, iscrowd=True))
    message = refused(folder, what)
    assert 'nothing to train on: all 2 usable annotations are crowds' in (
        message
    )
    assert len(build(folder, what, test_mode=True)) == 2


def test_masks_that_would_break_the_evaluation_are_refused_before(folder):
    """Runs that do not add up hang it; two points end it at its end."""
    rle = {'size': [48, 64], 'counts': [5, 5]}
    for mask in (rle, [[1, 2, 3, 4]]):
        what = content(annotation(1), annotation(2, segmentation=mask))
        message = refused(folder, what, test_mode=True)
        assert 'cannot be drawn, first annotation id 2' in message
        boxes = [LOAD, objects(with_mask=False), {'type': 'PackDetInputs'}]
        assert build(folder, what, test_mode=True, pipeline=boxes)[0]


def test_a_picture_that_ends_too_early_is_named(folder):
    """OpenCV would fill the rest with grey."""
    path = folder / 'images' / '1.png'
    Image.effect_noise((64, 48), 50).convert('RGB').save(path, 'JPEG')
    data = build(folder, content())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(BrokenImageError, match='1.png .*cannot be read'):
        data[1]


def test_a_box_partly_outside_is_clipped_by_resize(folder):
    box = annotation(1, (-10, 30, 30, 40))
    steps = [LOAD, objects(with_mask=False), {'type': 'PackDetInputs'}]
    plain = build(folder, content(box), pipeline=steps)
    resized = build(
        folder, content(box), pipeline=[*steps[:2], RESIZE, steps[2]]
    )
    wanted = {False: [-10, 30, 20, 70], True: [0, 30, 20, 48]}
    for clipped, data in ((False, plain), (True, resized)):
        found = data[0]['data_samples'].gt_instances.bboxes.tensor
        assert found.tolist() == [wanted[clipped]]


def test_polygons_without_area_are_ignored_and_counted(folder, said):
    what = content(annotation(1), annotation(2, segmentation=[[1, 2, 3, 4]]))
    sample = build(folder, what)[0]['data_samples']
    assert 'without a polygon of three points' in said.text
    assert ' 1 (annotation ids 2)' in said.text
    assert len(sample.gt_instances) == len(sample.ignored_instances) == 1


def rles():
    """The same crowd region as both kinds of RLE."""
    from pycocotools import mask

    region = np.zeros((48, 64), np.uint8, order='F')
    region[10:30, 20:50] = 1
    packed = mask.encode(region)
    flat = region.ravel(order='F')
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return region, {
        'compressed': {**packed, 'counts': packed['counts'].decode()},
        'uncompressed': {'size': [48, 64], 'counts': runs},
    }


@pytest.mark.parametrize('kind', ['compressed', 'uncompressed'])
def test_an_rle_crowd_is_loaded_and_ignored_in_training(folder, kind):
    region, masks = rles()
    crowd = annotation(
        2, (20, 10, 30, 20), iscrowd=1, segmentation=masks[kind]
    )
    sample = build(folder, content(annotation(1), crowd))[0]['data_samples']
    assert len(sample.gt_instances) == 1
    (mask,) = sample.ignored_instances.masks.masks
    assert np.array_equal(mask, region)


@pytest.mark.parametrize('kind', ['compressed', 'uncompressed'])
def test_a_crowd_is_ignored_in_ap(folder, kind):
    """A missed crowd and detections within it cost nothing."""
    import torch
    from mmdet.evaluation import CocoMetric

    crowd = annotation(
        2, (20, 10, 30, 20), iscrowd=1, segmentation=rles()[1][kind]
    )
    write(folder / 'a.json', content(annotation(1), crowd, num_images=1))
    scores = {}
    for flag in (1, 0):
        crowd['iscrowd'] = flag
        path = write(folder / f'{flag}.json', content(annotation(1), crowd))
        metric = CocoMetric(str(path), metric='bbox')
        metric.dataset_meta = {'classes': CLASSES}
        found = {
            'bboxes': torch.tensor([[4.0, 4, 24, 14], [22, 12, 30, 20]]),
            'scores': torch.tensor([0.5, 0.9]),
            'labels': torch.tensor([0, 0]),
        }
        for i in (0, 1):
            empty = {k: v[:0] for k, v in found.items()}
            sample = {
                'img_id': i,
                'ori_shape': (48, 64),
                'pred_instances': empty if i else found,
            }
            metric.process({}, [sample])
        scores[flag] = metric.evaluate(2)['coco/bbox_mAP_50']
    assert scores[1] == 1.0
    assert scores[0] < 0.6


def test_images_without_objects_stay_or_go_as_filter_cfg_says(folder):
    what = content(annotation(1), num_images=4)
    for drop, number in ((False, 4), (True, 1)):
        data = build(folder, what, filter_cfg={'filter_empty_gt': drop})
        assert len(data) == number
    empty = {**what, 'annotations': []}
    assert len(build(folder, empty)) == 4
    message = refused(folder, empty, filter_cfg={'filter_empty_gt': True})
    assert 'none of its 4 images is left' in message
    assert 'filter_empty_gt=False' in message
    message = refused(folder, what, filter_cfg={'min_size': 1000})
    assert 'min_size' in message


def test_an_image_that_breaks_later_is_named(folder):
    rle = {'size': [48, 64], 'counts': [48 * 64 - 5, 5]}
    mask = annotation(1, image=1, segmentation=rle)
    data = build(folder, content(mask, num_images=4))
    (folder / 'images/3.png').unlink()
    with pytest.raises(DatasetLayoutError, match='3.png does not exist'):
        data[3]
    (folder / 'images/2.png').write_bytes(b'')
    with pytest.raises(BrokenImageError, match='2.png'):
        data[2]
    # The mask does not fit any more, and mmdet only asserts that.
    Image.new('RGB', (640, 480)).save(folder / 'images/1.png')
    with pytest.raises(DatasetLayoutError, match='is 640 x 480'):
        data[1]


def test_images_of_remote_storage_are_not_looked_at(folder):
    what = content(num_images=9)
    assert '5 of 9 images' in refused(folder, what)
    remote = {'backend_args': {'backend': 'local'}}
    assert len(build(folder, **remote)) == 9
    assert 'lacks 2 of the 2' in refused(
        folder, content(classes=('ant',)), **remote
    )


def test_a_fault_of_the_pipeline_stays_what_it_is(folder):
    data = build(folder, content())
    data.pipeline.transforms.append(lambda results: results['nothing'])
    with pytest.raises(KeyError, match='nothing'):
        data[0]


def shared(name):
    root = os.environ.get('MMSCOPE_SHARED')
    if not root or not os.path.isdir(f'{root}/data/{name}'):
        pytest.skip(f'MMSCOPE_SHARED names no folder with data/{name}')
    return f'{root}/data/{name}'


@pytest.mark.parametrize(('split', 'crowds'), [('train', 8), ('val', 5)])
def test_real_coco_passes_and_its_crowds_are_ignored(split, crowds, said):
    data = build(
        shared('coco_mini'),
        ann_file=f'annotations/instances_{split}2017.json',
        data_prefix={'img': f'{split}2017/'},
        metainfo=None,
    )
    assert not said.text
    flagged = [
        i
        for i, info in enumerate(data.data_list)
        if any(obj['ignore_flag'] for obj in info['instances'])
    ]
    ignored = [data[i]['data_samples'].ignored_instances for i in flagged]
    assert sum(map(len, ignored)) == crowds
    for instances in ignored:
        assert instances.masks.masks.any((1, 2)).all()


def test_real_cells_pass_without_masks_and_not_with(said):
    options = {
        'ann_file': 'annotations/instances_test.json',
        'metainfo': {'classes': ('RBC', 'WBC', 'Platelets')},
    }
    root = shared('bccd')
    assert len(build(root, pipeline=[], **options)) == 72
    assert not said.text
    assert '945 of 945 annotations have no segmentation' in refused(
        root, **options
    )


def test_an_image_turned_by_half_is_said_or_refused(folder, said):
    """Its size is that of the annotations, its boxes lie elsewhere."""
    exif = Image.Exif()
    exif[0x0112] = 3
    path = folder / 'images' / '0.png'
    Image.open(path).save(path, exif=exif)
    what = content(annotation(1))
    dataset = build(folder, what)
    assert '1 of 2 images have an EXIF orientation' in said.text
    assert 'never their boxes' in said.text
    said.clear()
    dataset[0], dataset[0]
    assert said.text.count('EXIF') == 1
    assert 'EXIF orientation' in refused(folder, what, strict=True)


def test_a_full_check_repeats_what_was_left_out(folder):
    what = content(annotation(1), annotation(2, bbox=[0, 0, 0, 9]))
    with without_samples():
        dataset = build(folder, what)
    found = check_all(dataset)
    assert not found.problems
    assert 'annotation' in found.doubts[0]
    assert 'every file is right' not in found.report('train')


def test_strict_refuses_objects_without_a_polygon(folder):
    thin = annotation(2, segmentation=[[1, 1, 9, 9]])
    message = refused(folder, content(annotation(1), thin), strict=True)
    assert 'without a polygon of three points' in message
    assert 'annotation ids 2' in message
