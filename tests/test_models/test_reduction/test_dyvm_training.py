"""DyVM in training: noise, masks, gradients, and who must observe."""

from __future__ import annotations

import copy

import pytest
import torch
from builders.dyvm import MAPS, NO_CLS, images, make, trained

from mmscope.models import (
    MambaReg,
    VideoMamba,
    VisionMamba,
    forced_decisions,
    observe,
)
from mmscope.models.layers import SummaryTokens, TokenSequence, places_between
from mmscope.models.reduction.arrangement import arrange
from mmscope.models.reduction.dyvm_decisions import draw_directions, draw_kept

PATCHES = 16
FAMILIES = pytest.mark.parametrize('family', [VisionMamba, VideoMamba])
KINDS = pytest.mark.parametrize(
    'options', [{}, MAPS, NO_CLS], ids=['cls', 'maps', 'no_cls']
)


def step(model, imgs, seed=0):
    """One training forward and backward, and its record."""
    torch.manual_seed(seed)
    model.train().zero_grad()
    with observe(model) as records:
        outputs = model(imgs)
    (record,) = records
    loss = sum(x.square().mean() for x in outputs)
    (loss + sum(model.reduction.losses(record).values())).backward()
    return outputs, record


@FAMILIES
@KINDS
def test_training_with_the_decisions_of_inference_is_inference(
    family, options
):
    model = trained(make(family, **options))
    with torch.no_grad(), observe(model) as records:
        expected = model(images())
    (record,) = records
    tokens = [
        torch.zeros(4, PATCHES, dtype=torch.bool).scatter(1, s.kept, True)
        for s in record.reductions
    ]
    model.train()
    with observe(model) as records:
        with forced_decisions(model, tokens, record.block_policy):
            outputs = model(images())
    (record,) = records
    assert record.lengths == [PATCHES + model.summary_tokens.count] * 4
    assert [stage.kept for stage in record.reductions] == [None, None]
    for a, b in zip(outputs, expected, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@FAMILIES
@KINDS
def test_every_parameter_gets_a_gradient(family, options):
    # As DDP wants it. In maps the last norm is among them.
    model = make(family, **options)
    _, record = step(model, images())
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    heads = [block.mixer.block_head for block in model.layers]
    layers = [predictor.in_conv[1] for predictor in model.score_predictors]
    for layer in (*heads, *layers):
        assert layer.weight.grad.abs().sum() > 0


@FAMILIES
def test_what_is_dropped_stands_behind_and_tells_nobody(family):
    model, seen = trained(make(family)), []
    # Not the one that decisions are drawn from.
    other = torch.Generator()

    def change(module, args):
        tokens, residual, plan = args
        seen.append(plan.mask)
        noise = torch.randn(tokens.shape, generator=other)
        noise = noise * (1 - plan.mask.detach())
        return tokens + 1e3 * noise, residual, plan

    (plain, record) = step(model, images())
    model.layers[2].register_forward_pre_hook(change)
    (changed, _) = step(model, images())
    torch.testing.assert_close(changed[0], plain[0])
    mask = seen[0][..., 0].detach()
    counts = record.decisions[0].sum(1).long()
    assert len(set(counts.tolist())) > 1
    for row, count in zip(mask, counts, strict=True):
        assert row[: count + 1].all()
        assert not row[count + 1 :].any()


def test_decisions_only_ever_drop():
    model = trained(make())
    _, record = step(model, images())
    first, second = record.decisions
    assert ((first == 0) | (first == 1)).all()
    assert (second.sum(1) < first.sum(1)).all()
    # In the order of the second stage kept ones stand first.
    counts = first.sum(1).long()
    for row, count in zip(second, counts, strict=True):
        assert not row[count:].any()
    assert torch.equal(
        record.positions.sort(1).values, torch.arange(16).expand(4, -1)
    )
    policy = record.token_policy
    assert torch.equal(policy.sum(1), second.sum(1))
    assert record.tokens.shape == (4, 16, 16)
    assert record.block_decisions.shape == (4, 4, 2)
    assert record.block_policy.dtype == torch.bool


def test_the_losses_are_the_squared_errors_of_both_ratios():
    model = trained(make(reduction={'ratio_weight': 20.0}))
    _, record = step(model, images())
    token = [
        (d.mean(1) - 0.7 ** (s + 1)).square().mean()
        for s, d in enumerate(record.decisions)
    ]
    block = record.block_policy.float().mean() - 0.8
    losses = model.reduction.losses(record)
    assert losses['loss_token_ratio'].item() == pytest.approx(
        10 * sum(token).item(), rel=1e-5
    )
    assert losses['loss_block_ratio'].item() == pytest.approx(
        20 * block.item() ** 2, rel=1e-5
    )


def test_all_noise_comes_from_one_method():
    model, asked = make(), []

    def given(kind, index, shape, device):
        asked.append((kind, index, tuple(shape)))
        return torch.ones(shape, device=device)

    model.reduction.exponential = given
    step(model, images(2))
    block = (2, 2, 2)
    assert asked == [
        ('block', 0, block),
        ('token', 0, (2, 16, 2)),
        ('block', 1, block),
        ('block', 2, block),
        ('token', 1, (2, 16, 2)),
        ('block', 3, block),
    ]


def test_recomputation_draws_no_other_noise():
    found = []
    for with_cp in (False, True):
        model = trained(make(with_cp=with_cp))
        outputs, record = step(model, images())
        found.append([p.grad for p in model.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_noise_decides_about_one_keep_in_probability():
    torch.manual_seed(0)
    probs = torch.tensor([0.8, 0.2]).log().expand(1, 20000, 2)
    draws = torch.empty(probs.shape).exponential_()
    kept = draw_kept(probs, draws)
    assert kept.mean().item() == pytest.approx(0.8, abs=0.01)
    logits = torch.full((20000, 2), 2.0)
    draws = torch.empty(2, 20000, 2).exponential_()
    run = draw_directions(logits, draws).mean().item()
    assert run == pytest.approx(torch.tensor(2.0).sigmoid().item(), abs=0.01)


def test_decisions_carry_the_gradient_of_the_soft_ones():
    logits = torch.tensor([[0.3, -0.4]], requires_grad=True)
    draws = torch.tensor([[[1.0, 2.0]], [[0.5, 0.7]]])
    run = draw_directions(logits, draws)
    noise = draws[1].log() - draws[0].log()
    soft = ((logits + noise) / 2).sigmoid()
    wanted = torch.autograd.grad(soft.sum(), logits)[0]
    run.sum().backward()
    assert torch.equal(run.detach(), (soft > 0.5).float())
    torch.testing.assert_close(logits.grad, wanted)


def test_a_forward_that_nobody_observes_is_refused():
    model = make().train()
    with pytest.raises(RuntimeError, match=r'mmscope\.TokenReductionHook'):
        model(images(1))
    with observe(model):
        model(images(1))
    with pytest.raises(RuntimeError, match='would be lost'):
        model(images(1))
    model.eval()(images(1))


def test_a_forward_leaves_nothing_on_the_model():
    model = trained(make())
    before = {n: dict(vars(m)) for n, m in model.named_modules()}
    step(model, images())
    for name, module in model.named_modules():
        now = vars(module)
        assert now.keys() == before[name].keys()
        assert all(
            now[k] is before[name][k] for k in now if k != 'training'
        ), name
    copy.deepcopy(model)


def test_directions_are_weighed_after_the_gate():
    # With both decisions 0 the mixer adds nothing.
    model = make()
    blocks = torch.zeros(4, 2, 2, dtype=torch.bool)
    outputs = []
    model.layers[0].register_forward_hook(
        lambda *call: outputs.append(call[-1][0])
    )
    model.train()
    with observe(model), forced_decisions(model, blocks=blocks):
        model(images(2))
    assert not outputs[0].any()


def test_mixed_precision_trains():
    model = trained(make())
    model.train()
    with torch.autocast('cpu', torch.bfloat16), observe(model) as records:
        (features,) = model(images())
    (record,) = records
    losses = model.reduction.losses(record)
    assert all(x.dtype == torch.float32 for x in losses.values())
    (features.float().sum() + sum(losses.values())).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


KINDS_OF_SUMMARY = [
    SummaryTokens('middle', 1),
    SummaryTokens('first', 1),
    SummaryTokens('last', 2),
    SummaryTokens('woven', 3),
    SummaryTokens('none', 0),
]


@pytest.mark.parametrize('kind', KINDS_OF_SUMMARY, ids=str)
def test_places_of_many_images_are_those_of_each(kind):
    counts = torch.arange(5, 14)
    places = kind.places_of(counts)
    between = places_between(places, 20)
    for row, other, k in zip(places, between, counts.tolist(), strict=True):
        assert tuple(row.tolist()) == kind.places(k)
        taken = sorted([*row.tolist(), *other.tolist()])
        assert taken == list(range(20 + kind.count))
        assert other.tolist() == sorted(other.tolist())


def test_registers_stay_woven_among_what_is_left():
    # Mamba-Reg: (k // (n + 1) + 1) * (j + 1) - 1.
    kind = SummaryTokens('woven', 3)
    values = torch.arange(2 * 15.0).view(2, 15, 1)
    summary, patches = values[:, :3], values[:, 3:]
    sequence = TokenSequence.plain(patches, summary, kind, (3, 4))
    order = torch.tensor([[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]])
    places = kind.places_of(torch.tensor([5, 4]))
    found = arrange(sequence, order, places)
    assert found.places.tolist() == [[1, 3, 5], [1, 3, 5]]
    assert torch.equal(found.summary(found.tokens), summary)
    left = found.patches(found.tokens)
    assert torch.equal(left[..., 0], patches[..., 0].gather(1, order))
    back = found.cells.clamp(min=0)
    assert (found.cells >= 0).sum(1).tolist() == [5, 5]
    shown = found.tokens[..., 0].gather(1, back)
    kept = found.cells >= 0
    assert torch.equal(shown[kept], patches[..., 0][kept])


@pytest.mark.parametrize('family', [VisionMamba, VideoMamba, MambaReg])
@pytest.mark.parametrize('options', [{}, MAPS], ids=['vector', 'maps'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_an_image_that_is_not_finite_leaves_its_mates_alone(
    family, options, value
):
    model, imgs = trained(make(family, **options)), images()
    expected, _ = step(model, imgs)
    imgs[1] = value
    found, _ = step(model, imgs)
    for one, other in zip(found, expected, strict=True):
        assert not one[1].isfinite().any()
        assert torch.equal(one[[0, 2, 3]], other[[0, 2, 3]])


@pytest.mark.parametrize('options', [{}, MAPS], ids=['vector', 'maps'])
def test_registers_train_as_they_infer(options):
    model = make(MambaReg, num_registers=3, cls_reduce=2, **options)
    trained(model)
    with torch.no_grad(), observe(model) as records:
        expected = model(images())
    (record,) = records
    assert record.lengths == [19, 14, 14, 10]
    # The mean of the registers' rows decides.
    seen = []
    mixer = model.layers[3].mixer
    mixer.in_proj.register_forward_hook(lambda *call: seen.append(call[-1]))
    with torch.no_grad():
        model(images())
    places = list(model.summary_tokens.places(7))
    logits = mixer.block_head(seen[0][:, places].mean(1))
    assert torch.equal(record.block_policy[3], logits > 0)
    tokens = [
        torch.zeros(4, PATCHES, dtype=torch.bool).scatter(1, s.kept, True)
        for s in record.reductions
    ]
    model.train()
    with observe(model):
        with forced_decisions(model, tokens, record.block_policy):
            features = model(images())
    for one, other in zip(features, expected, strict=True):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()
