import pytest
import torch
from builders import segmentation
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

pytest.importorskip('mmseg.models')
from mmseg.registry import MODELS

from mmscope.models import attach_gate, observe


def build(**options):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(segmentation.segmentor(**options)))


def batch(model, scenes, training=True):
    from mmengine.runner import Runner

    loader = Runner.build_dataloader(
        segmentation.dataloader(scenes, train=training), seed=0
    )
    return model.data_preprocessor(next(iter(loader)), training)


def test_both_stages_are_trained_and_every_parameter_learns(scenes):
    model = build().train()
    data = batch(model, scenes)
    losses = model.loss(data['inputs'], data['data_samples'])
    expected = {
        'decode.loss_ce',
        'coarse_decode.loss_ce',
        'aux.loss_ce',
        'coarse_aux.loss_ce',
        'loss_exit_coarse',
        'loss_exit_fine',
        'loss_exit_distill',
    }
    assert {k for k in losses if 'loss' in k} == expected
    total, _ = model.parse_losses(losses)
    total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_batch_norm_is_updated_once_a_step(scenes):
    model = build().train()
    data = batch(model, scenes)
    model.loss(data['inputs'], data['data_samples'])
    counts = {
        int(buffer)
        for name, buffer in model.named_buffers()
        if name.endswith('num_batches_tracked')
    }
    assert counts == {1}


def test_the_fine_loss_is_that_of_the_fine_maps_alone(scenes):
    # In evaluation mode batch norm couples nothing, so the split is exact.
    model = build().train()
    data = batch(model, scenes)
    for module in (model.neck, model.decode_head, model.auxiliary_head):
        module.eval()
    losses = model.loss(data['inputs'], data['data_samples'])
    with observe(model) as records:
        fine = model.backbone(data['inputs'])
    head = model.decode_head
    alone = head.loss_by_feat(head(model.neck(fine)), data['data_samples'])
    assert torch.allclose(losses['decode.loss_ce'], alone['loss_ce'])
    coarse = records[0].coarse_maps
    alone = head.loss_by_feat(head(model.neck(coarse)), data['data_samples'])
    assert torch.allclose(losses['coarse_decode.loss_ce'], alone['loss_ce'])


def test_the_coarse_weight_scales_the_coarse_losses_only(scenes):
    totals = {}
    model = build().train()
    data = batch(model, scenes)
    for module in (model.neck, model.decode_head, model.auxiliary_head):
        module.eval()
    for weight in (1.0, 0.25):
        model.coarse_loss_weight = weight
        totals[weight] = model.loss(data['inputs'], data['data_samples'])
    for name, value in totals[1.0].items():
        scale = 0.25 if name.startswith('coarse') and 'loss' in name else 1.0
        assert torch.allclose(totals[0.25][name], value * scale), name


@pytest.mark.parametrize('value', [-1, float('nan'), '1', None, True])
def test_a_bad_coarse_weight_is_named(value):
    config = segmentation.segmentor()
    config['coarse_loss_weight'] = value
    init_default_scope('mmseg')
    told = f'coarse_loss_weight must be a finite number >= 0, got {value!r}'
    with pytest.raises(ValueError, match=told):
        MODELS.build(ConfigDict(config))


def test_an_all_ignore_mask_gives_a_finite_loss(scenes):
    model = build().train()
    data = batch(model, scenes)
    for sample in data['data_samples']:
        sample.gt_sem_seg.data.fill_(255)
    losses = model.loss(data['inputs'], data['data_samples'])
    total, _ = model.parse_losses(losses)
    assert total.item() == 0.0
    total.backward()


def test_the_model_threshold_wins_over_the_backbone():
    model = segmentation.segmentor(exit_threshold=0.3)
    init_default_scope('mmseg')
    assert MODELS.build(model).backbone.exit_threshold == 0.3
    model['exit_threshold'] = 0.6
    assert MODELS.build(model).backbone.exit_threshold == 0.6


def test_a_backbone_without_coarse_stage_is_refused():
    config = segmentation.segmentor()
    config['backbone'].pop('exit_head')
    config['backbone']['type'] = 'mmscope.VisionMamba'
    init_default_scope('mmseg')
    with pytest.raises(ValueError, match='needs a two-stage backbone'):
        MODELS.build(config)


def test_a_head_whose_output_cannot_be_split_is_refused(scenes):
    model = build().train()
    model.decode_head.forward = lambda maps: (maps[0], maps[1])
    data = batch(model, scenes)
    with pytest.raises(ValueError, match='cannot be split'):
        model.loss(data['inputs'], data['data_samples'])


@pytest.mark.parametrize('mode', ['whole', 'slide'])
@torch.no_grad()
def test_predictions_do_not_depend_on_batch_mates(scenes, mode):
    model = build(mode=mode).eval()
    head = model.backbone.exit_head
    torch.nn.init.normal_(head.fc.weight)
    head.num_updates += 1
    data = batch(model, scenes, training=False)
    attach_gate(model, 2.0)
    with observe(model) as records:
        model(**data, mode='predict')
    values = torch.cat([r.confidence for r in records]).sort().values
    attach_gate(model, float(values[:2].mean()))
    together = model(**data, mode='predict')
    assert len(records) == (1 if mode == 'whole' else 2)
    for i, sample in enumerate(data['data_samples']):
        alone = model(data['inputs'][i : i + 1], [sample], mode='predict')
        assert torch.allclose(
            alone[0].seg_logits.data,
            together[i].seg_logits.data,
            atol=1e-4,
        )
