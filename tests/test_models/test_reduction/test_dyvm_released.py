"""DyVM computes what the released code computes, in every family it has."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from builders.dyvm import released
from builders.released import relative

from mmscope.models import VideoMamba, VisionMamba, forced_decisions, observe
from mmscope.models.losses import coarse_fine_kl, kept_token_error
from mmscope.ops import why_unavailable

STAGES = range(3)
SEGMENTATION = {
    'summary_position': 'none',
    'out_type': 'featmap',
    'out_indices': [0, 2, 3],
    'feature_source': 'mixer',
    'last_norm': False,
    'residual_in_fp32': False,
}
FAMILIES = pytest.mark.parametrize('name', ['vim', 'videomamba', 'mambareg'])
TAUGHT = pytest.mark.parametrize('name', ['vim', 'videomamba'])


def classify(features, wanted):
    return F.linear(features, wanted['sd/head.weight'], wanted['sd/head.bias'])


def check_decisions(record, wanted):
    for s in STAGES:
        kept = record.reductions[s].kept
        assert torch.equal(kept, wanted[f'stage{s}/kept'])
    assert record.block_policy.dtype == torch.bool
    assert torch.equal(record.block_policy, wanted['block_policy'].bool())


@torch.no_grad()
@pytest.mark.parametrize('backend', ['reference', 'cpu'])
@FAMILIES
def test_decisions_and_logits_are_the_released_ones(name, backend):
    if reason := why_unavailable(backend, torch.device('cpu')):
        pytest.skip(reason)
    model, wanted = released(name, scan_backend=backend)
    with observe(model) as records:
        (features,) = model(wanted['image'])
    check_decisions(records[0], wanted)
    assert relative(classify(features, wanted), wanted['logits']) < 2e-4


@torch.no_grad()
@FAMILIES
def test_scores_are_the_released_ones(name):
    model, wanted = released(name)
    scores = []
    for predictor in model.score_predictors:
        predictor.register_forward_hook(lambda *call: scores.append(call[-1]))
    model(wanted['image'])
    for s in STAGES:
        assert relative(scores[s][..., 0], wanted[f'stage{s}/score']) < 2e-4


@torch.no_grad()
def test_maps_of_the_released_segmentation_show_pruned_patches():
    model, wanted = released('seg', **SEGMENTATION)
    with observe(model) as records:
        maps = model(wanted['image'])
    check_decisions(records[0], wanted)
    for i, level in enumerate(maps):
        assert relative(level, wanted[f'feature{i}']) < 5e-4


def teach(model, wanted, scale=None):
    """Logits and patches of the same model without a reduction."""
    family = VideoMamba if type(model) is VideoMamba else VisionMamba
    plain = family(
        arch=model.arch, img_size=model.img_size, patch_size=model.patch_size
    ).eval()
    state = {k: v for k, v in model.state_dict().items() if 'head' not in k}
    plain.load_state_dict(
        {k: state[k] for k in plain.state_dict()}, strict=True
    )
    head = {k: wanted[f'sd/head.{k}'] for k in ('weight', 'bias')}
    if scale is not None:
        for param in plain.parameters():
            param.data = (param.data * scale).half().float()
        head = {k: (v * scale).half().float() for k, v in head.items()}
    with torch.no_grad():
        encoded = plain.encode_images(wanted['image'])
        (features,) = plain(wanted['image'])
    logits = F.linear(features, head['weight'], head['bias'])
    return logits, encoded.sequence.to_raster(encoded.tokens)


def step_losses(model, wanted, features, record, labels, teacher, head):
    """The five parts in the fixture's order: CE, tokens, blocks, KL, MSE."""
    logits = F.linear(features, *head)
    ratios = model.reduction.losses(record)
    return torch.stack(
        [
            F.cross_entropy(logits, labels),
            ratios['loss_token_ratio'],
            ratios['loss_block_ratio'],
            0.5 * coarse_fine_kl(logits, teacher[0]),
            0.5 * kept_token_error(record, teacher[1]),
        ]
    )


def raster(kept, count):
    """Turn indices (B, k) into flags (B, count)."""
    flags = torch.zeros(len(kept), count, dtype=torch.bool)
    return flags.scatter(1, kept, True)


@TAUGHT
def test_training_with_the_decisions_of_inference_is_inference(name):
    model, wanted = released(name)
    count = model.grid[0] * model.grid[1]
    tokens = [raster(wanted[f'stage{s}/kept'], count) for s in STAGES]
    blocks = wanted['block_policy'].bool()
    teacher = teach(model, wanted)
    assert relative(teacher[0], wanted['teacher_logits']) < 2e-4
    with torch.no_grad():
        (inference,) = model(wanted['image'])
    model.train()
    with observe(model) as records, forced_decisions(model, tokens, blocks):
        (features,) = model(wanted['image'])
    (record,) = records
    assert relative(features, inference) < 1e-5
    assert torch.equal(record.positions, wanted['train/positions'])
    policy = record.token_policy.long()
    assert torch.equal(policy, wanted['train/token_policy'])
    for s in STAGES:
        decision = record.decisions[s].long()
        assert torch.equal(decision, wanted[f'train/decision{s}'])
    kept = policy.bool()
    assert relative(record.tokens[kept], wanted['train/tokens'][kept]) < 2e-4
    head = wanted['sd/head.weight'], wanted['sd/head.bias']
    labels = wanted['train/labels']
    parts = step_losses(model, wanted, features, record, labels, teacher, head)
    for i, part in enumerate(wanted['train/loss_parts']):
        assert parts[i].item() == pytest.approx(part.item(), rel=1e-4)
    assert parts.sum().item() == pytest.approx(
        wanted['train/loss'].item(), rel=1e-4
    )


@pytest.mark.parametrize('with_cp', [False, True])
def test_one_training_step_with_given_noise(with_cp):
    model, wanted = released('train', with_cp=with_cp)
    teacher = teach(model, wanted, wanted['teacher_scale'].item())

    def given(kind, index, shape, device):
        draws = wanted['block_exponential'][index]
        if kind == 'token':
            draws = wanted[f'token_exponential{index}']
        assert tuple(draws.shape) == tuple(shape)
        return draws.to(device)

    model.reduction.exponential = given
    head = [
        wanted[f'sd/head.{k}'].clone().requires_grad_()
        for k in ('weight', 'bias')
    ]
    model.train()
    with observe(model) as records:
        (features,) = model(wanted['image'])
    (record,) = records
    for s in STAGES:
        decision = record.decisions[s].long()
        assert torch.equal(decision, wanted[f'decision{s}'])
    # The images keep different numbers of patches.
    assert len(set(record.decisions[-1].sum(1).tolist())) > 1
    blocks = record.block_decisions.long()
    assert torch.equal(blocks, wanted['block_decisions'])
    assert torch.equal(record.positions, wanted['positions'])
    assert torch.equal(record.token_policy.long(), wanted['token_policy'])
    parts = step_losses(
        model, wanted, features, record, wanted['labels'], teacher, head
    )
    assert parts.detach().tolist() == pytest.approx(
        wanted['loss_parts'].tolist(), rel=1e-5, abs=1e-7
    )
    assert parts.sum().item() == pytest.approx(wanted['loss'].item(), rel=1e-5)
    parts.sum().backward()
    names = [key for key in wanted if key.startswith('grad/')]
    params = dict(model.named_parameters()) | {'head.weight': head[0]}
    assert len(names) == 12
    for key in names:
        grad = params[key.removeprefix('grad/')].grad
        assert relative(grad, wanted[key]) < 1e-4, key
