"""Two steps of training, in a runner of each host, of any backbone.

Each function writes data and gives ``make(name, backbone, **options)``, which
builds the runner of a backbone's config in the folder of that name. A scope
gets the host that trains both of its stages, others the plain one.
"""

from __future__ import annotations

import pytest


def is_scope(backbone):
    return backbone['type'].endswith('Scope')


def classification(tmp_path):
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    from builders import classification as builders

    root = builders.write_photos(tmp_path / 'data')

    def make(name, backbone, **options):
        host, head = 'mmscope.CoarseToFineClassifier', None
        if not is_scope(backbone):
            host, head = 'ImageClassifier', {'type': 'LinearClsHead'}
        model = builders.classifier(host, head, **backbone)
        # Two steps of six images.
        loader = builders.dataloader(root, True, batch_size=6)
        options = {'epochs': 1, 'train_dataloader': loader, **options}
        return builders.runner(root, tmp_path / name, model, **options)

    return make


def segmentation(tmp_path):
    pytest.importorskip('mmseg.models', reason='needs mmsegmentation')
    from builders import segmentation as builders

    root = builders.write_scenes(tmp_path / 'data')

    def make(name, backbone, **options):
        model = builders.segmentor(**backbone)
        if not is_scope(backbone):
            model['type'] = 'EncoderDecoder'
            del model['backbone']['exit_head']
        return builders.runner(root, tmp_path / name, model, 2, **options)

    return make


def detection(tmp_path):
    pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
    from builders import detection as builders

    root = builders.write_coco(tmp_path / 'data')

    def make(name, backbone, **options):
        host, body = (
            'mmscope.EarlyExitCascadeRCNN',
            builders.backbone(**backbone),
        )
        if not is_scope(backbone):
            host = 'CascadeRCNN'
            del body['exit_head']
        model = builders.cascade(host, backbone=body)
        return builders.runner(root, tmp_path / name, model, 2, **options)

    return make


HOSTS = pytest.mark.parametrize(
    'host',
    [classification, segmentation, detection],
    ids=lambda host: host.__name__,
)
