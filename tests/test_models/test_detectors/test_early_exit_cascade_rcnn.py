import copy

import pytest
import torch
from builders import detection
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
from mmscope.models import attach_gate, observe
from mmscope.models.losses import feature_consistency
from mmscope.registry import MODELS


def build(host='mmscope.EarlyExitCascadeRCNN', **options):
    torch.manual_seed(0)
    config = ConfigDict(detection.cascade(host, **options))
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(config)


def batch(model, root, training=True, **options):
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(
            detection.dataloader(root, training, **options), seed=0
        )
    return model.data_preprocessor(next(iter(loader)), training)


def losses_of(model, data, seed=0):
    torch.manual_seed(seed)
    return model.loss(data['inputs'], data['data_samples'])


def as_tensor(loss):
    # The RPN gives a list, one loss a level.
    values = loss if isinstance(loss, list) else [loss]
    return torch.stack([value.detach().squeeze() for value in values])


@pytest.mark.parametrize('coarse_loss', ['feature', 'detection'])
def test_both_stages_are_trained_and_every_parameter_learns(coco, coarse_loss):
    model = build(coarse_loss=coarse_loss).train()
    losses = losses_of(model, batch(model, coco))
    own = {
        'loss_rpn_cls',
        'loss_rpn_bbox',
        's0.loss_cls',
        's0.loss_bbox',
        's0.loss_mask',
        's1.loss_cls',
        's1.loss_bbox',
        's2.loss_cls',
        's2.loss_bbox',
    }
    coarse = {
        'feature': {'loss_feature_consistency'},
        'detection': {f'coarse_{name}' for name in own},
    }[coarse_loss]
    exits = {'loss_exit_coarse', 'loss_exit_fine', 'loss_exit_distill'}
    assert {k for k in losses if 'loss' in k} == own | coarse | exits
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_the_plain_losses_are_those_of_the_fine_maps(coco):
    model = build(coarse_loss='feature').train()
    data = batch(model, coco)
    ours = losses_of(model, data)
    plain = build('CascadeRCNN').train()
    plain.load_state_dict(model.state_dict())
    with observe(plain) as records:
        theirs = losses_of(plain, data)
    for name, value in theirs.items():
        assert torch.allclose(as_tensor(ours[name]), as_tensor(value)), name
    consistency = feature_consistency(records[0])
    assert torch.allclose(ours['loss_feature_consistency'], consistency)


def test_coarse_detection_losses_are_those_of_the_coarse_maps(coco):
    # With the coarse maps in both places the two losses must agree; the
    # samplers' seed is set before each.
    model = build(coarse_loss='detection').train()
    data = batch(model, coco)
    torch.manual_seed(0)
    with observe(model) as records:
        model.backbone(data['inputs'])
    coarse = records[0].coarse_maps
    seeded = type(model).extract_feat

    def extract_feat(self, maps):
        result = seeded(self, maps)
        torch.manual_seed(1)
        return result

    torch.manual_seed(0)
    type(model).extract_feat = extract_feat
    try:
        losses = model.loss(data['inputs'], data['data_samples'])
        torch.manual_seed(0)
        alone = super(type(model), model).loss(coarse, data['data_samples'])
    finally:
        type(model).extract_feat = seeded
    for name, value in alone.items():
        wanted, got = as_tensor(value), losses[f'coarse_{name}']
        assert torch.allclose(as_tensor(got), wanted), name
    fine = as_tensor(losses['loss_rpn_cls'])
    assert not torch.allclose(fine, as_tensor(alone['loss_rpn_cls']))


@pytest.mark.parametrize('coarse_loss', ['feature', 'detection'])
def test_the_coarse_weight_scales_the_coarse_losses_only(coco, coarse_loss):
    model = build(coarse_loss=coarse_loss).train()
    data = batch(model, coco)
    totals = {}
    for weight in (1.0, 0.25):
        model.coarse_loss_weight = weight
        totals[weight] = losses_of(model, data)
    for name, value in totals[1.0].items():
        coarse = name.startswith('coarse') or 'consistency' in name
        scale = 0.25 if coarse and 'loss' in name else 1.0
        assert torch.allclose(
            as_tensor(totals[0.25][name]),
            as_tensor(value) * scale,
        ), name


@torch.no_grad()
def test_threshold_zero_never_calls_the_fine_stage(coco, monkeypatch):
    model = build(exit_threshold=0.0).eval()
    data = batch(model, coco, training=False)

    def fail(*_):
        raise AssertionError('the fine stage ran')

    monkeypatch.setattr(type(model.backbone), 'forward_fine', fail)
    results = model(**data, mode='predict')
    assert all(len(r.pred_instances) for r in results)
    assert model.backbone.last_exit.exited.all()
    model.backbone.exit_threshold = None
    with pytest.raises(AssertionError, match='the fine stage ran'):
        model(**data, mode='predict')


def raw(root, scale):
    """One image as the loader gives it, neither normalised nor padded."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(
            detection.dataloader(root, False, 1, scale=scale), seed=0
        )
    data = next(iter(loader))
    return data['inputs'][0], data['data_samples'][0]


def together(model, images):
    data = {
        'inputs': [image for image, _ in images],
        # Predicting adds the results to the sample that it is given.
        'data_samples': [copy.deepcopy(sample) for _, sample in images],
    }
    return model.data_preprocessor(data, False)


# Height, width of the file; the longer side is 64 in the model.
SIZES = [(48, 64), (64, 48), (20, 100), (60, 12), (32, 32)]


@torch.no_grad()
def test_an_image_gives_the_same_detections_alone_and_in_a_batch(
    tmp_path, spread_confidences, assert_same_detections
):
    # All orientations end in the same square; some exit, some go on.
    images = [
        raw(
            detection.write_coco(tmp_path / str(i), 1, size, (), seed=i),
            (64, 64),
        )
        for i, size in enumerate(SIZES)
    ]
    assert len({image.shape for image, _ in images}) == len(SIZES)
    model = build().eval()
    data = together(model, images)
    assert data['inputs'].shape[-2:] == (64, 64)
    values = spread_confidences(model, data['inputs'])
    attach_gate(model, float(values[1:3].mean()))
    with observe(model) as records:
        batch_mates = model(**data, mode='predict')
    together_exited = records[0].exited.tolist()
    assert sorted(together_exited) == [False] * 2 + [True] * 3
    exited = []
    for image, size, mate in zip(images, SIZES, batch_mates, strict=True):
        (alone,) = model(**together(model, [image]), mode='predict')
        exited += model.backbone.last_exit.exited.tolist()
        assert_same_detections(alone, mate)
        assert mate.pred_instances.masks.shape[-2:] == size
    assert exited == together_exited


@torch.no_grad()
def test_images_of_different_sizes_share_a_batch(tmp_path, spread_confidences):
    # Their canvas is their batch's, so that no equality is claimed.
    root = detection.write_coco(tmp_path / 'wide', num=1, empty=())
    model = build(data_preprocessor=detection.preprocessor(divisor=32))
    model.eval()
    scales = ((64, 48), (200, 64), (40, 40))
    images = [raw(root, scale) for scale in scales]
    assert len({image.shape for image, _ in images}) == 3
    data = together(model, images)
    assert data['inputs'].shape[-2:] == (64, 96)
    values = spread_confidences(model, data['inputs'])
    attach_gate(model, float(values[:2].mean()))
    results = model(**data, mode='predict')
    assert sum(model.backbone.last_exit.exited) == 2
    for result in results:
        assert result.pred_instances.masks.shape[-2:] == (48, 64)


def test_the_model_threshold_wins_over_the_backbone():
    backbone = detection.backbone(exit_threshold=0.3)
    assert build(backbone=backbone).backbone.exit_threshold == 0.3
    model = build(backbone=backbone, exit_threshold=0.6)
    assert model.backbone.exit_threshold == 0.6


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'coarse_loss': 'maps'}, "one of .*'detection', 'feature'.*'maps'"),
        ({'exit_threshold': -1}, 'exit_threshold must be'),
        (
            {'backbone': detection.backbone(out_type='cls_token')},
            "set backbone.out_type='featmap'",
        ),
        (
            {
                'coarse_loss': 'detection',
                'neck': detection.neck(norm_cfg={'type': 'BN'}),
            },
            'the batch norm neck.levels.0.1 would see two statistics',
        ),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_backbone_without_coarse_stage_is_refused():
    backbone = detection.backbone(type='mmscope.VisionMamba')
    backbone.pop('exit_head')
    with pytest.raises(ValueError, match='needs a two-stage backbone'):
        build(backbone=backbone)


def test_several_levels_of_the_backbone_are_refused(coco):
    model = build(backbone=detection.backbone(out_indices=(0, 1))).train()
    with pytest.raises(ValueError, match='one map, got 2'):
        losses_of(model, batch(model, coco))


def test_a_map_learns_where_nothing_is(coco):
    head = {
        'type': 'mmscope.MultiLabelExitHead',
        'num_classes': 2,
        'confidence': 'map',
    }
    backbone = detection.backbone(exit_head=head)
    model = build(backbone=backbone).train()
    with pytest.raises(ValueError, match='exit_head.map_nothing=True'):
        losses_of(model, batch(model, coco))
    head['map_nothing'] = True
    model = build(backbone=backbone).train()
    losses = losses_of(model, batch(model, coco))
    losses['loss_exit_map'].backward()
    grad = model.backbone.exit_head.fc_map.bias.grad
    # Most of these scenes is empty: nothing is to be predicted more often.
    assert grad[2] < 0 < grad[:2].max()


def test_labels_beyond_the_exit_head_are_refused(coco):
    head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 1}
    model = build(backbone=detection.backbone(exit_head=head)).train()
    with pytest.raises(ValueError, match='exit head has num_classes=1'):
        losses_of(model, batch(model, coco))
