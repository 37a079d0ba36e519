"""CocoMetric against the data set, both real."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from builders.coco import CLASSES, annotation, content, write
from mmengine.runner import BaseLoop
from torch import nn

pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric

from mmscope.datasets import ClassCheckHook, DatasetLayoutError
from mmscope.datasets.coco_metric import check_metric


def pair(folder, data, scored, **options):
    """A data set and a metric that read two files."""
    for name, what in (('data', data), ('scored', scored)):
        write(folder / f'{name}.json', what)
    dataset = CocoDataset(
        ann_file=str(folder / 'data.json'),
        data_prefix={'img': 'images'},
        metainfo={'classes': CLASSES},
        test_mode=True,
        pipeline=[],
        **options,
    )
    return CocoMetric(str(folder / 'scored.json'), metric='bbox'), dataset


def test_the_same_file_passes(tmp_path, said):
    what = content(num_images=70)
    check_metric(*pair(tmp_path, what, what))
    assert not said.text
    check_metric(SimpleNamespace(), None)


def test_a_file_of_fewer_images_is_refused(tmp_path):
    metric, data = pair(tmp_path, content(num_images=3), content())
    with pytest.raises(DatasetLayoutError, match='no image of id 2') as error:
        check_metric(metric, data)
    assert f"to the data set's file, {data.ann_file}" in str(error.value)


def test_another_split_that_counts_from_zero_too_is_refused(tmp_path):
    other = content()
    other['images'][0]['file_name'] = 'val/9.png'
    with pytest.raises(DatasetLayoutError, match='calls image 0 val/9.png'):
        check_metric(*pair(tmp_path, content(), other))


@pytest.mark.parametrize(
    'mask', [{'size': [48, 64], 'counts': [5, 5]}, [[1, 2, 3, 4]], []]
)
def test_masks_that_cannot_be_scored_are_refused(tmp_path, mask):
    what = content(annotation(1), annotation(2, segmentation=mask))
    metric, data = pair(tmp_path, content(), what)
    check_metric(metric, data)
    metric.metrics = ['bbox', 'segm']
    with pytest.raises(DatasetLayoutError, match='annotation id 2'):
        check_metric(metric, data)


def test_other_category_ids_are_refused(tmp_path):
    other = content(annotation(1, category=7))
    other['categories'][0]['id'] = 7
    with pytest.raises(DatasetLayoutError, match=r'\[1, 2\] .* \[7, 2\]'):
        check_metric(*pair(tmp_path, content(), other))


def test_a_part_of_the_images_warns_that_ap_counts_all(tmp_path, said):
    what = content(num_images=9)
    check_metric(*pair(tmp_path, what, what, indices=3))
    assert '3 images are scored' in said.text
    assert 'has 9' in said.text


def test_the_hook_checks_the_metrics_of_val_and_test(tmp_path):
    class Loop(BaseLoop):
        def __init__(self, metric, dataset):
            self.evaluator = SimpleNamespace(metrics=[metric])
            self.dataloader = SimpleNamespace(dataset=dataset)

        def run(self):
            raise NotImplementedError

    wrong = Loop(*pair(tmp_path, content(num_images=3), content()))
    for name in ('_val_loop', '_test_loop'):
        loops = {'_train_loop': None, '_val_loop': None, '_test_loop': {}}
        runner = SimpleNamespace(model=nn.Module(), **{**loops, name: wrong})
        with pytest.raises(DatasetLayoutError, match='no image of id 2'):
            ClassCheckHook().before_run(runner)
