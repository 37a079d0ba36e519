"""A small token reduction that uses every seam of the protocol."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from mmscope.models import (
    MambaScope,
    TokenReduction,
    VideoMamba,
    VideoMambaScope,
    VisionMamba,
    observe,
    reduces_tokens,
)
from mmscope.models.layers import (
    NO_STEPS,
    PLAIN,
    MixerPlan,
    Steps,
    TokenSequence,
    gather_tokens,
)
from mmscope.registry import MODELS

ARCH = {'embed_dims': 16, 'num_layers': 4}
PATCHES = 16


@dataclass
class Decision:
    """What one pass decided."""

    kept: torch.Tensor
    gate: torch.Tensor


@MODELS.register_module(force=True)
class ToyReduction(TokenReduction):
    """Prunes by a score before a block, and lets images skip directions.

    In training tokens are masked instead, and directions weighted.
    """

    def __init__(self, layer=2, keep_ratio=0.5, skip=True, score='l2_norm'):
        self.layer, self.keep_ratio = layer, keep_ratio
        self.skip, self.score = skip, score

    def install(self, backbone):
        if not 0 < self.layer < backbone.num_layers:
            raise ValueError(f'ToyReduction cannot prune at {self.layer}')
        if self.skip:
            mixer = backbone.layers[self.layer].mixer
            mixer.block_head = nn.Linear(2 * mixer.d_inner, 2)

    def start(self, backbone, sequence):
        if self.keep_ratio == 1 and not self.skip:
            return NO_STEPS
        return ToySteps(self, backbone, sequence)

    def losses(self, record):
        (decision,) = record.reductions
        return {'loss_toy': 3 * decision.gate.mean()}

    def lengths(self, backbone, patches):
        count = backbone.summary_tokens.count
        kept = int(self.keep_ratio * patches) + count
        before = [patches + count] * self.layer
        return before + [kept] * (backbone.num_layers - self.layer)


class ToySteps(Steps):
    def __init__(self, reduction, backbone, sequence):
        self.settings, self.backbone = reduction, backbone
        patches = sequence.grid[0] * sequence.grid[1]
        self.count = int(reduction.keep_ratio * patches)
        self.scores = self.gate = self.mask = None
        self.asked = 0

    def before_block(self, i, sequence):
        if i != self.settings.layer:
            return sequence
        kept = self.keep(sequence)
        if not self.backbone.training:
            return self.prune(sequence, kept)
        self.kept = kept
        self.mask = torch.zeros_like(self.scores).scatter(1, kept, 1.0)
        return sequence

    def keep(self, sequence):
        """Places of the best patches and of all summary tokens, (B, k)."""
        places = torch.tensor(sequence.places).expand(len(self.scores), -1)
        scores = self.scores.scatter(1, places, torch.inf)
        best = scores.topk(self.count + len(sequence.places), 1).indices
        return best.sort(1).values

    def prune(self, sequence, kept):
        old = sequence.cell_places
        order = torch.arange(kept.shape[1]).expand_as(kept)
        new = torch.full_like(self.scores, -1, dtype=torch.long)
        new = new.scatter(1, kept, order)
        frozen = None
        if self.backbone.out_type == 'featmap':
            frozen = sequence.to_raster(
                self.backbone.level(sequence.tokens, sequence.residual)
            )
        places = torch.tensor(sequence.places).expand(len(kept), -1)
        return TokenSequence(
            gather_tokens(sequence.tokens, kept),
            sequence.grid,
            new.gather(1, places),
            new.gather(1, old),
            gather_tokens(sequence.residual, kept),
            frozen,
        )

    def plan(self, i, sequence):
        self.asked += 1
        if i == self.settings.layer - 1:
            return MixerPlan(score=self.settings.score)
        if i < self.settings.layer:
            return PLAIN
        mask = None if self.mask is None else self.mask[..., None]
        if i > self.settings.layer or not self.settings.skip:
            return replace(PLAIN, mask=mask)
        return MixerPlan(directions=self.directions, mask=mask)

    def directions(self, xz):
        # Looked up at each call: a copy asks its own.
        head = self.backbone.layers[self.settings.layer].mixer.block_head
        self.gate = head(xz.mean(1)).sigmoid()
        return self.gate if self.backbone.training else self.gate > 0.5

    def after_block(self, i, sequence, mixed):
        if mixed.scores is not None:
            self.scores = mixed.scores

    def finish(self, sequence, tokens, record):
        kept = self.kept if self.backbone.training else sequence.kept
        record.reductions.append(Decision(kept, self.gate))


def make(family=VisionMamba, reduction=None, **options):
    torch.manual_seed(0)
    if reduction is not None:
        reduction = {'type': 'mmscope.ToyReduction', **reduction}
    options = {'arch': ARCH, 'img_size': 64, **options}
    model = family(reduction=reduction, **options).eval()
    return model


@torch.no_grad()
def spread(model, imgs):
    """Let images skip different directions, as training would."""
    head = model.layers[2].mixer.block_head
    nn.init.normal_(head.weight, std=0.5)
    with observe(model) as records:
        model(imgs)
    # Between the second and the third of four, far from both.
    logits = records[0].reductions[0].gate.logit().sort(0).values
    head.bias -= logits[1:3].mean(0)


@pytest.fixture
def imgs():
    return torch.randn(4, 3, 64, 64, generator=torch.manual_seed(2))


MAPS = {'out_type': 'featmap', 'out_indices': (0, 1, 2, 3)}
FAMILIES = pytest.mark.parametrize('family', [VisionMamba, VideoMamba])


@torch.no_grad()
@FAMILIES
def test_it_prunes_what_scores_least(family, imgs):
    model = make(family, {'skip': False})
    plain = make(family)
    plain.load_state_dict(model.state_dict())
    scores = []
    mixer = plain.layers[1].mixer
    mixer.register_forward_pre_hook(
        lambda _, args: (args[0], MixerPlan(score='l2_norm'))
    )
    mixer.register_forward_hook(lambda *call: scores.append(call[-1].scores))
    plain(imgs)
    patches, _ = plain.summary_tokens.split(scores[0])
    wanted = patches.topk(8, 1).indices.sort(1).values
    with observe(model) as records:
        model(imgs)
    (record,) = records
    assert record.lengths == [17, 17, 9, 9]
    assert record.lengths == model.reduction.lengths(model, PATCHES)
    assert torch.equal(record.reductions[0].kept, wanted)


@torch.no_grad()
@FAMILIES
@pytest.mark.parametrize('options', [{}, MAPS], ids=['cls', 'maps'])
def test_a_batch_is_as_one_by_one(family, options, imgs):
    model = make(family, {}, **options)
    spread(model, imgs)
    with observe(model) as records:
        together = model(imgs)
        for i in range(len(imgs)):
            alone = model(imgs[i : i + 1])
            for one, all_of_them in zip(alone, together, strict=True):
                torch.testing.assert_close(one[0], all_of_them[i])
    first, *others = (record.reductions[0] for record in records)
    for i, other in enumerate(others):
        assert torch.equal(first.kept[i : i + 1], other.kept)
    # These images differ in what they keep and in what they skip.
    assert len(first.kept.unique(dim=0)) > 1
    assert len((first.gate > 0.5).unique(dim=0)) > 1


@torch.no_grad()
@FAMILIES
@pytest.mark.parametrize('options', [{}, MAPS], ids=['cls', 'maps'])
def test_with_nothing_to_reduce_it_is_the_family_bit_for_bit(
    family, options, imgs
):
    model = make(family, {'keep_ratio': 1, 'skip': False}, **options)
    plain = make(family, **options)
    assert model.state_dict().keys() == plain.state_dict().keys()
    for a, b in zip(model(imgs), plain(imgs), strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
def test_keeping_all_through_the_seams_changes_nothing(imgs):
    # The gather is there, and nothing is gone.
    model = make(reduction={'keep_ratio': 1, 'skip': True}, **MAPS)
    nn.init.zeros_(model.layers[2].mixer.block_head.weight)
    nn.init.ones_(model.layers[2].mixer.block_head.bias)
    plain = make(**MAPS)
    for a, b in zip(model(imgs), plain(imgs), strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
@FAMILIES
@pytest.mark.parametrize('last_norm', [True, False])
def test_maps_show_pruned_patches_as_they_were(family, last_norm, imgs):
    options = {**MAPS, 'last_norm': last_norm}
    model = make(family, {'skip': False}, **options)
    plain = make(family, **options)
    with observe(model) as records:
        maps = [m.flatten(2).mT for m in model(imgs)]
    before = [m.flatten(2).mT for m in plain(imgs)]
    kept = records[0].reductions[0].kept
    gone = torch.ones(4, PATCHES).scatter(1, kept, 0).bool()
    assert gone.sum() == 4 * 8
    assert torch.equal(maps[0], before[0])
    # A score that is asked for may take another operator.
    torch.testing.assert_close(maps[1], before[1])
    # What block 1 gave: pruning is before block 2.
    assert torch.equal(maps[2][gone], maps[1][gone])
    assert not torch.isclose(maps[2][~gone], maps[1][~gone]).all(1).any()
    shown = model.norm_f(maps[1]) if last_norm else maps[1]
    torch.testing.assert_close(maps[3][gone], shown[gone])


@torch.no_grad()
def test_an_image_skips_the_directions_that_it_does_not_want(imgs):
    model = make(reduction={'keep_ratio': 1})
    head = model.layers[2].mixer.block_head
    nn.init.zeros_(head.weight)
    for wanted in ((1, 0), (0, 1), (1, 1)):
        head.bias.copy_(torch.tensor(wanted) * 200.0 - 100.0)
        with observe(model) as records:
            skipped = model(imgs)[0]
        assert records[0].directions[:2] == [None, None]
        ran = records[0].directions[2]
        assert ran.dtype == torch.bool
        assert ran.int().tolist() == [list(wanted)] * 4
        # A weight of exactly 0 or 1 is the same in numbers.
        weighted = model.train()(imgs)[0]
        torch.testing.assert_close(skipped, weighted)
        model.eval()
    # Nobody runs the backward scan where none wants it.
    mixer, calls = model.layers[2].mixer, []
    head.bias.copy_(torch.tensor([100.0, -100.0]))
    for name in ('x_proj', 'x_proj_b'):
        getattr(mixer, name).register_forward_hook(
            lambda *call, name=name: calls.append(name)
        )
    model(imgs)
    assert calls == ['x_proj']


def test_a_masked_token_tells_the_others_nothing(imgs):
    model = make(reduction={'skip': False}).train()
    seen, changed = [], []

    def change(module, args):
        if changed:
            tokens, residual, *rest = args
            mask = changed[0][..., None]
            noise = torch.randn(tokens.shape) * (1 - mask)
            return tokens + noise, residual, *rest
        return None

    model.layers[2].register_forward_pre_hook(change)
    model.layers[2].register_forward_hook(
        lambda module, args, out: seen.append((args[2].mask, out[0]))
    )
    model(imgs)
    changed.append(seen[0][0][..., 0])
    model(imgs)
    (mask, tokens), (again, other) = seen
    assert torch.equal(mask, again)
    assert mask.sum((1, 2)).tolist() == [9.0] * 4
    alive = mask[..., 0].bool()
    torch.testing.assert_close(tokens[alive], other[alive])
    # It is changed itself, through its own gate and stream.
    changed[0] = changed[0] * 0
    model(imgs)
    assert not torch.allclose(seen[2][1][alive], tokens[alive])


def test_a_masked_token_adds_nothing_to_any_state(imgs):
    model = make(reduction={'skip': False}).train()
    masks, scanned = [], []
    block = model.layers[2]
    block.register_forward_hook(lambda *call: masks.append(call[1][2].mask))
    for name in ('x_proj', 'x_proj_b'):
        getattr(block.mixer, name).register_forward_pre_hook(
            lambda _, args: scanned.append(args[0])
        )
    model(imgs)
    assert len(scanned) == 2
    for u in scanned:
        assert torch.equal((u == 0).all(-1), masks[0][..., 0] == 0)


def test_training_leaves_a_loss_with_its_graph(imgs):
    model = make(reduction={}).train()
    with observe(model) as records:
        model(imgs)[0].sum()
    (record,) = records
    # Masked, not shortened.
    assert record.lengths == [17] * 4
    assert record.directions[2].is_floating_point()
    losses = model.reduction.losses(record)
    assert losses['loss_toy'].item() == pytest.approx(
        3 * record.directions[2].mean().item()
    )
    losses['loss_toy'].backward()
    assert model.layers[2].mixer.block_head.weight.grad.abs().sum() > 0
    with observe(model.eval()) as records:
        model(imgs)
    (record,) = records
    assert not record.directions[2].requires_grad


def test_the_task_s_loss_reaches_the_decisions(imgs):
    model = make(reduction={}).train()
    model(imgs)[0].square().mean().backward()
    assert model.layers[2].mixer.block_head.weight.grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.parameters())


def test_recomputation_asks_for_no_other_plan(imgs):
    results, asked = [], []
    for with_cp in (False, True):
        model = make(reduction={}, with_cp=with_cp).train()
        start = model.reduction.start

        def watch(*args, start=start):
            asked.append(start(*args))
            return asked[-1]

        model.reduction.start = watch
        model(imgs)[0].square().mean().backward()
        results.append([p.grad for p in model.parameters()])
    assert [steps.asked for steps in asked] == [4, 4]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_a_copy_decides_by_modules_of_its_own(imgs):
    model = make(reduction={})
    other = copy.deepcopy(model)
    assert model.state_dict().keys() == other.state_dict().keys()
    name = 'layers.2.mixer.block_head.bias'
    assert name in model.state_dict()
    with torch.no_grad():
        before = model(imgs)[0]
        dict(other.named_parameters())[name].fill_(-100.0)
        assert torch.equal(model(imgs)[0], before)
        assert not torch.allclose(other(imgs)[0], before)


def test_it_is_asked_whether_tokens_are_reduced():
    host = nn.Sequential()
    host.backbone = make(reduction={})
    assert reduces_tokens(host)
    host.backbone = make()
    assert not reduces_tokens(host)


@pytest.mark.parametrize('family', [MambaScope, VideoMambaScope])
def test_scoping_and_a_reduction_exclude_each_other(family):
    with pytest.raises(ValueError, match='reduction=ToyReduction'):
        make(family, {'skip': False})


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='cannot prune at 4'):
        make(reduction={'layer': 4})
    with pytest.raises(ValueError, match='VideoMamba, not a token reduction'):
        VisionMamba(arch=ARCH, reduction={'type': 'VideoMamba'})
    model = make(reduction={'score': 'nonsense'})
    with pytest.raises(ValueError, match='nonsense'):
        model(torch.randn(1, 3, 64, 64))
