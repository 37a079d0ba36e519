"""What the two losses train, and what they leave alone."""

import copy

import pytest
import torch
from builders import classification
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.utils import digit_version
from mmpretrain.registry import MODELS

FINE_ONLY = ('backbone.pos_embed', 'backbone.reuse')
SOFT_LABELS = {
    'augments': [
        {'type': 'Mixup', 'alpha': 0.8},
        {'type': 'CutMix', 'alpha': 1.0},
    ]
}
SMOOTH = {
    'type': 'LabelSmoothLoss',
    'label_smooth_val': 0.1,
    'mode': 'original',
}


def build(**options):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(classification.classifier(**options)))
    model.init_weights()
    return model.train()


def batch(model, photos, size=4):
    loader = Runner.build_dataloader(
        classification.dataloader(photos, train=True, batch_size=size), seed=0
    )
    return model.data_preprocessor(next(iter(loader)), training=True)


def losses(model, photos):
    return model(**batch(model, photos), mode='loss')


@pytest.mark.parametrize('selection', [False, True])
def test_every_parameter_learns_in_both_phases(photos, selection):
    model = build(refine_ratio=0.5)
    model.backbone.selection = selection
    found = losses(model, photos)
    assert set(found) == {'loss', 'loss_kl'}
    total, _ = model.parse_losses(found)
    total.backward()
    still = [
        name
        for name, param in model.named_parameters()
        if param.grad is None or not param.grad.abs().sum() > 0
    ]
    assert still == []


def test_the_divergence_trains_the_coarse_stage_alone(photos):
    model = build()
    losses(model, photos)['loss_kl'].backward()
    touched = {
        name
        for name, param in model.named_parameters()
        if param.grad is not None and param.grad.abs().sum() > 0
    }
    assert 'backbone.coarse_pos_embed' in touched
    assert 'head.fc.weight' in touched
    # The released position embedding and the reuse serve the fine stage.
    assert not {name for name in touched if name.startswith(FINE_ONLY)}


def test_the_divergence_does_not_push_the_fine_stage(photos):
    # With the coarse tokens cut off from the fine stage, the gradient of
    # the sum on what only the fine stage uses is that of the CE alone.
    model = build(feature_reuse='none', refine_ratio=1.0)
    gradients = []
    for names in (('loss',), ('loss', 'loss_kl')):
        model.zero_grad()
        found = losses(model, photos)
        sum(found[name] for name in names).backward()
        gradients.append(model.backbone.pos_embed.grad.clone())
    assert torch.equal(*gradients)
    assert gradients[0].abs().sum() > 0


def test_both_stages_use_the_same_tensors():
    vim = classification.classifier(
        host='ImageClassifier', head={'type': 'LinearClsHead'}
    )
    vim['backbone']['type'] = 'mmscope.VisionMamba'
    init_default_scope('mmpretrain')
    shared = dict(MODELS.build(ConfigDict(vim)).named_parameters())
    ours = dict(build().named_parameters())
    extra = {name for name in ours if name not in shared}
    assert set(shared) <= set(ours)
    assert {name.split('.')[1] for name in extra} == {
        'coarse_pos_embed',
        'reuse',
    }


def test_each_stage_has_its_own_prediction(photos):
    model = build(head={'type': 'mmscope.CoarseToFineClsHead', 'kl_weight': 2})
    data = batch(model, photos)
    found = model.head.loss(
        model.extract_feat(data['inputs']), data['data_samples']
    )
    coarse, fine = model.backbone(data['inputs'])
    labels = torch.cat([s.gt_label for s in data['data_samples']])
    log_p, log_q = (model.head.fc(x).log_softmax(-1) for x in (fine, coarse))
    ce = -log_p[torch.arange(len(labels)), labels].mean()
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    assert found['loss'].item() == pytest.approx(ce.item(), rel=1e-4)
    assert found['loss_kl'].item() == pytest.approx(2 * kl.item(), rel=1e-3)


def test_mixed_and_smoothed_labels_reach_the_fine_loss(photos):
    head = {'type': 'mmscope.CoarseToFineClsHead', 'loss': SMOOTH}
    options = classification.classifier(head=head)
    options['train_cfg'] = SOFT_LABELS
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(options)).train()
    # All twelve images: a shuffle cannot pair each with its own class.
    data = batch(model, photos, size=12)
    scores = torch.stack([s.gt_score for s in data['data_samples']])
    assert ((scores > 0) & (scores < 1)).any()
    found = model.loss(data['inputs'], data['data_samples'])
    fine = model.backbone(data['inputs'])[-1]
    smooth = 0.9 * scores + 0.1 / scores.shape[1]
    wanted = -(smooth * model.head.fc(fine).log_softmax(-1)).sum(-1).mean()
    assert found['loss'].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert found['loss_kl'] > 0


def test_a_step_leaves_no_graph_behind(photos):
    model = build()
    before = dict(vars(model.backbone))
    losses(model, photos)
    # Nobody who comes later, such as a copy, meets what the step computed.
    assert vars(model.backbone) == before
    copy.deepcopy(model)


def test_bfloat16_stays_finite_for_200_steps_and_near_float32(photos):
    curves = []
    for enabled in (False, True):
        model = build()
        data = batch(model, photos)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        curve = []
        for _ in range(200):
            with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
                found = model(**data, mode='loss')
            total, _ = model.parse_losses(found)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            curve.append(total.detach())
        curves.append(torch.stack(curve).float())
    exact, half = curves
    assert half.isfinite().all()
    # The first steps have hardly diverged; both learn these four images.
    assert torch.allclose(half[:5], exact[:5], rtol=0.05)
    assert max(exact[-1], half[-1]) < 0.2 * exact[0]


def trained(photos, work_dir, model, **options):
    """Losses of four steps, and the runner."""
    runner = classification.runner(photos, work_dir, model, **options)
    runner.train()
    history, _ = runner.message_hub.get_scalar('train/loss').data
    return history, runner


@pytest.mark.slow
@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.4'),
    reason='torch.compile features need torch >= 2.4',
)
@pytest.mark.parametrize('kind', ['VisionMamba', 'MambaScope'])
def test_a_runner_that_compiles_trains_alike(photos, tmp_path, kind):
    options = {'arch': {'embed_dims': 16, 'num_layers': 1}}
    if kind == 'VisionMamba':
        head = {'type': 'LinearClsHead'}
        model = classification.classifier('ImageClassifier', head, **options)
        model['backbone']['type'] = 'mmscope.VisionMamba'
        hooks = {'custom_hooks': []}
    else:
        model, hooks = classification.classifier(**options), {}
    plain, _ = trained(photos, tmp_path / 'a', model, epochs=1, **hooks)
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    backend = {'backend': 'aot_eager'}
    compiled, runner = trained(
        photos, tmp_path / 'b', model, epochs=1, compile=backend, **hooks
    )
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert 'accuracy/top1' in str(runner.message_hub.log_scalars)
    # Up to the losses all is one graph: only what follows breaks it.
    assert counters['stats']['unique_graphs'] > 0
    after = ('Tensor.backward()', 'torch._dynamo.graph_break()')
    for why in counters['graph_break']:
        assert any(word in why for word in after), why
