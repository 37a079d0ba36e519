"""Tiny models of all hosts with their data, as files."""

import pytest
from builders.runs import write_run as write_run
from builders.tools import load_tool as load_tool


@pytest.fixture(scope='session')
def detector_run(tmp_path_factory):
    """A mask detector; 48 x 64 images are resized and padded."""
    pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
    from builders import detection

    folder = tmp_path_factory.mktemp('detector')
    detection.write_coco(folder)
    loader = detection.dataloader(folder, False, scale=(96, 96))
    model = detection.cascade()
    # Fresh weights predict that no class is there.
    model['backbone']['exit_head']['confidence'] = 'entropy'
    return write_run(folder, 'mmdet', model, loader, 'detector')


@pytest.fixture(scope='session')
def segmentor_run(tmp_path_factory):
    """A segmentor."""
    pytest.importorskip('mmseg.models')
    from builders import segmentation

    folder = tmp_path_factory.mktemp('segmentor')
    segmentation.write_scenes(folder, num=2)
    loader = segmentation.dataloader(folder, False)
    return write_run(
        folder, 'mmseg', segmentation.segmentor(), loader, 'segmentor'
    )


@pytest.fixture(scope='session')
def classifier_run(tmp_path_factory):
    """A classifier, whose checkpoint alone names the classes."""
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    from builders import classification

    folder = tmp_path_factory.mktemp('classifier')
    classification.write_photos(folder / 'photos', per_class=1)
    loader = classification.dataloader(folder / 'photos', False)
    return write_run(
        folder,
        'mmpretrain',
        classification.classifier(),
        loader,
        'classifier',
        dataset_meta={'classes': sorted(classification.COLOURS)},
    )


@pytest.fixture(scope='session')
def dyvm_run(tmp_path_factory):
    """A classifier of 16 patches with DyVM, whose checkpoint names classes."""
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    from builders import classification

    folder = tmp_path_factory.mktemp('dyvm')
    classification.write_photos(folder / 'photos', per_class=1)
    model = classification.classifier(
        'ImageClassifier',
        {'type': 'LinearClsHead'},
        type='mmscope.VisionMamba',
        reduction={'type': 'mmscope.DyVM', 'prune_layers': (1, 3)},
    )
    loader = classification.dataloader(folder / 'photos', False)
    meta = {'classes': sorted(classification.COLOURS)}
    return write_run(
        folder, 'mmpretrain', model, loader, 'dyvm', dataset_meta=meta
    )


@pytest.fixture(scope='session')
def merging_run(tmp_path_factory):
    """A segmentor with R-MeeTo; 40 x 90 images are padded to 64 x 96."""
    pytest.importorskip('mmseg.models')
    from builders import segmentation

    folder = tmp_path_factory.mktemp('merging')
    segmentation.write_scenes(folder, num=2, size=(40, 90))
    reduction = {'type': 'mmscope.RMeeTo', 'merge_tokens': 5}
    reduction['merge_interval'] = 1
    model = segmentation.segmentor(
        'EncoderDecoder', type='mmscope.VisionMamba', reduction=reduction
    )
    del model['backbone']['exit_head']
    loader = segmentation.dataloader(folder, False)
    return write_run(folder, 'mmseg', model, loader, 'merging')
