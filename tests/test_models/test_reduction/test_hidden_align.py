"""HiddenAlign: what it keeps, how states pass, and what it must not do."""

from __future__ import annotations

import copy

import pytest
import torch
from builders.released import relative
from reduced import (
    ARCH,
    FAMILIES,
    KINDS,
    MAPS,
    assert_training_recomputes,
    images,
    load,
    make,
    one_by_one,
)

from mmscope.analysis import stage_costs
from mmscope.models import MambaScope, VideoMamba, VisionMamba, observe
from mmscope.models.layers import (
    NO_STEPS,
    MixerPlan,
    SummaryTokens,
    TokenSequence,
)
from mmscope.models.layers.mixer import BidirectionalMamba
from mmscope.models.reduction import hidden_align
from mmscope.models.reduction.hidden_align import idle_steps
from mmscope.models.reduction.pruning import keep_top, prune, raster_indices

HA = {'type': 'mmscope.HiddenAlign', 'prune_layers': (2, 4)}
NAMES = {'none': 'corrected', 'decay': 'aligned_our_reading'}


def to_raster(kept, before):
    """Raster indices of what the fixture gives as places of patches."""
    patches = torch.arange(before.shape[1]).expand_as(before)
    middle = before.shape[1] // 2
    # Places behind cls count one more.
    places = patches + (patches >= middle)
    found = (kept[:, :, None] == places[:, None]).long().argmax(-1)
    return before.gather(1, found)


@torch.no_grad()
@pytest.mark.parametrize('backend', ['reference', 'cpu'])
@pytest.mark.parametrize('alignment', NAMES)
def test_it_is_the_released_model_without_its_bugs(alignment, backend):
    reduction = {
        'type': 'mmscope.HiddenAlign',
        'prune_layers': (5, 10, 15),
        'alignment': alignment,
    }
    model, head, wanted = load(
        'topvim_released_dev.npz', VisionMamba, reduction, backend
    )
    imgs = wanted['image'].float()
    with observe(model) as records:
        logits = head(model(imgs)[0])
    name = NAMES[alignment]
    assert relative(logits, wanted[f'{name}/logits']) < 5e-4
    other = NAMES['none' if alignment == 'decay' else 'decay']
    assert relative(logits, wanted[f'{other}/logits']) > 1e-2
    before = torch.arange(36).expand(2, -1)
    stages = records[0].reductions
    assert [stage.kept.shape[1] for stage in stages] == [28, 22]
    for i, stage in enumerate(stages):
        kept = wanted[f'{name}/stage{i}/kept'].long()
        before = to_raster(kept, before)
        assert torch.equal(stage.kept, before)


# ----------------------------------------------------------------- pieces


def test_equal_scores_keep_the_first():
    scores = torch.tensor([[1.0, 2.0, 1.0, 2.0, 1.0], [0.0] * 5])
    assert keep_top(scores, 3).tolist() == [[0, 1, 3], [0, 1, 2]]
    assert keep_top(scores, 5).tolist() == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize('position', ['middle', 'first', 'none'])
def test_pruning_twice_keeps_track_of_the_cells(position):
    kind = SummaryTokens(position, int(position != 'none'))
    model = make(None, summary_position=position, **MAPS)
    patches = torch.arange(6.0).view(1, 6, 1).expand(2, -1, -1)
    summary = torch.full((2, kind.count, 1), 9.0)
    sequence = TokenSequence.plain(patches, summary, kind, (2, 3))
    sequence = sequence.with_tokens(sequence.tokens, 10 * sequence.tokens)
    assert raster_indices(sequence).tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    sequence = prune(sequence, torch.tensor([[0, 2, 3, 5]] * 2), model)
    sequence = prune(sequence, torch.tensor([[1, 2, 3], [0, 1, 3]]), model)
    kept = [[2, 3, 5], [0, 2, 5]]
    assert raster_indices(sequence).tolist() == kept
    assert sequence.kept.tolist() == kept
    assert sequence.places == kind.places(3)
    shown = sequence.patches(sequence.tokens)[..., 0]
    assert shown.tolist() == kept
    assert (sequence.summary(sequence.tokens) == 9).all()
    assert torch.equal(sequence.residual, 10 * sequence.tokens)
    # What is gone shows stream plus output, what is there what it is now.
    raster = sequence.to_raster(-sequence.tokens)[..., 0]
    assert raster.tolist() == [
        [0, 11, -2, -3, 44, -5],
        [0, 11, -2, 33, 44, -5],
    ]


@pytest.mark.parametrize(
    ('position', 'wanted'),
    [
        ('middle', [[0, 2, 0, 0, 3], [2, 0, 0, 3, 0]]),
        ('first', [[0, 0, 2, 0, 3], [0, 2, 0, 3, 0]]),
        ('none', [[0, 2, 0, 3], [2, 0, 3, 0]]),
    ],
)
def test_idle_steps_by_hand(position, wanted):
    kind = SummaryTokens(position, int(position != 'none'))
    # 3 and 4 are gone, 7 to 9 are gone, and 0, 1 before all.
    steps = idle_steps(torch.tensor([[2, 5, 6, 10]]), kind)
    assert steps[:, 0].tolist() == wanted


def test_the_score_is_of_the_gated_backward_scan():
    torch.manual_seed(0)
    mixer = BidirectionalMamba(embed_dims=8, num_layers=2)
    tokens, found = torch.randn(2, 9, 8), []
    mixed = mixer(tokens, MixerPlan(score='backward_gated'))
    silent = copy.deepcopy(mixer)
    with torch.no_grad():
        for part in (silent.x_proj.weight, silent.D):
            part.zero_()
    silent.out_proj.register_forward_pre_hook(
        lambda _, args: found.append(args[0])
    )
    silent(tokens)
    # Halved there; no matter for a ranking.
    wanted = (2 * found[0]).clamp(min=0).sum(-1)
    torch.testing.assert_close(mixed.scores, wanted)
    assert not mixed.scores.requires_grad
    assert 'backward_gated' not in mixer.score_metrics


@pytest.mark.parametrize(
    ('ratio', 'even', 'counts'),
    [
        (0.8, True, {196: 156, 156: 124, 124: 100, 36: 28, 35: 28, 1: 1}),
        (0.8, False, {196: 157, 157: 126, 36: 29, 35: 28, 1: 1}),
        (0.7, False, {10: 7, 100: 70}),
        (1, True, {35: 35, 36: 36}),
        (0.01, True, {36: 1, 3: 1}),
    ],
)
def test_how_many_are_kept(ratio, even, counts):
    model = make({**HA, 'keep_ratio': ratio, 'round_even': even})
    found = {n: model.reduction.num_kept(n) for n in counts}
    assert found == counts


# ---------------------------------------------------------- in a backbone


@torch.no_grad()
@FAMILIES
@KINDS
@pytest.mark.parametrize('change', [{'keep_ratio': 1}, {'prune_layers': (6,)}])
def test_with_nothing_to_prune_it_is_the_family_bit_for_bit(
    family, options, change
):
    model = make({**HA, **change}, family, **options)
    plain = make(None, family, **options)
    assert list(model.state_dict()) == list(plain.state_dict())
    for size in ((48, 48), (40, 56)):
        imgs = images(2, *size)
        for a, b in zip(model(imgs), plain(imgs), strict=True):
            assert torch.equal(a, b)
    sequence = TokenSequence(torch.zeros(1, 36, 1), (6, 6), ())
    assert model.reduction.start(model, sequence) is NO_STEPS


@torch.no_grad()
@FAMILIES
@KINDS
@pytest.mark.parametrize('source', ['backward_gated', 'scan'])
@pytest.mark.parametrize('size', [(48, 48), (40, 56)], ids=['36', '35'])
def test_a_batch_is_as_one_by_one(family, options, source, size):
    model = make({**HA, 'score_source': source}, family, **options)
    imgs = images(3, *size)
    first = one_by_one(model, imgs, 'kept')
    summary = model.summary_tokens.count
    # 35 give ceil(28) and ceil(22.4), 36 ceil(28.8): next lower even ones.
    lengths = [size[0] * size[1] // 64, 28, 22]
    lengths = [n + summary for n in lengths for _ in range(2)]
    assert first.lengths == lengths
    patches = size[0] * size[1] // 64
    assert model.reduction.lengths(model, patches) == lengths


@torch.no_grad()
@FAMILIES
@pytest.mark.parametrize('source', ['backward_gated', 'scan'])
def test_what_is_kept_scores_best_in_the_plain_model(family, source):
    model = make({**HA, 'score_source': source}, family)
    plain, scores = make(None, family), []
    mixer = plain.layers[1].mixer
    metric = {'backward_gated': 'backward_gated', 'scan': 'clip'}[source]
    mixer.register_forward_pre_hook(
        lambda _, args: (args[0], MixerPlan(score=metric))
    )
    mixer.register_forward_hook(lambda *call: scores.append(call[-1].scores))
    plain(images())
    patches, _ = plain.summary_tokens.split(scores[0])
    wanted = patches.topk(28, 1).indices.sort(1).values
    with observe(model) as records:
        model(images())
    assert torch.equal(records[0].reductions[0].kept, wanted)


@torch.no_grad()
@FAMILIES
def test_alignment_begins_behind_the_first_stage(family):
    plans = {}
    for alignment in ('decay', 'none'):
        model = make({**HA, 'alignment': alignment}, family)
        seen = plans[alignment] = []
        for block in model.layers:
            block.register_forward_pre_hook(
                lambda _, args, seen=seen: seen.append(args[2])
            )
        model(images())
    scored = [None, 'backward_gated'] * 2 + [None, None]
    for found in plans.values():
        assert [plan.score for plan in found] == scored
    assert all(plan.gaps is None for plan in plans['none'])
    shapes = [
        plan.gaps if plan.gaps is None else tuple(plan.gaps.shape)
        for plan in plans['decay']
    ]
    first, second = [(2, 3, 29)] * 2, [(2, 3, 23)] * 2
    assert shapes == [None, None, *first, *second]


@torch.no_grad()
@FAMILIES
@pytest.mark.parametrize('summary', ['middle', 'none'])
@pytest.mark.parametrize('last_norm', [True, False])
def test_maps_show_pruned_patches_as_they_were(family, summary, last_norm):
    options = {**MAPS, 'summary_position': summary, 'last_norm': last_norm}
    model, imgs = make(HA, family, **options), images(2, 40, 56)
    with observe(model) as records:
        maps = model(imgs)
    assert [m.shape for m in maps] == [(2, 16, 5, 7)] * 3
    before = make(None, family, **options)(imgs)[0]
    torch.testing.assert_close(maps[0], before)
    shown = before.flatten(2).mT
    values = [m.flatten(2).mT for m in maps]
    kept = [
        torch.zeros(2, 35).scatter(1, stage.kept, 1).bool()
        for stage in records[0].reductions
    ]
    assert torch.allclose(values[1][~kept[0]], shown[~kept[0]], atol=1e-6)
    assert not torch.isclose(values[1][kept[0]], shown[kept[0]]).all(1).any()
    last = values[1]
    last = model.norm_f(last) if last_norm else last
    torch.testing.assert_close(values[2][~kept[1]], last[~kept[1]])
    assert not torch.isclose(values[2][kept[1]], last[kept[1]]).all(1).any()


@FAMILIES
@pytest.mark.parametrize('options', [{}, MAPS], ids=['cls', 'maps'])
def test_training_prunes_too_and_recomputes_the_same(family, options):
    assert_training_recomputes(HA, family, options)


def test_the_bias_learns_from_idle_steps():
    grads = []
    for alignment in ('decay', 'none'):
        model = make({**HA, 'alignment': alignment}).train()
        model(images())[0].square().mean().backward()
        grads.append(model.layers[5].mixer.dt_proj.bias.grad)
    assert not torch.allclose(*grads)


def test_mixed_precision_stays_near_full_precision():
    model = make(HA).train()
    with torch.autocast('cpu', torch.bfloat16):
        out = model(images())[0]
    out.float().square().mean().backward()
    assert model.cls_token.grad.isfinite().all()
    assert out.shape == (3, 16)


@torch.no_grad()
@pytest.mark.parametrize('alignment', ['decay', 'none'])
def test_it_is_one_graph_for_a_compiler(alignment):
    if not hasattr(torch.library, 'register_fake'):
        pytest.skip('needs torch >= 2.4')
    model = make(
        {**HA, 'alignment': alignment, 'prune_layers': (1,)},
        arch={'embed_dims': 16, 'num_layers': 2},
        scan_backend='cpu',
    )
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(images())[0], model(images())[0])


@torch.no_grad()
def test_replaced_parts_are_aligned_too():
    model = make(HA)
    wanted = model(images())[0]
    for block in model.layers:
        for name in ('dt_proj', 'dt_proj_b'):
            getattr(block.mixer, name).register_forward_hook(lambda *_: None)
    torch.testing.assert_close(model(images())[0], wanted)


# ---------------------------------------------------- costs, and refusals


@pytest.mark.parametrize(
    ('arch', 'layers', 'ratio', 'paper', 'exact'),
    [
        ('tiny', (10, 20), 0.8, 1.242, 1.562),
        ('tiny', (10, 20), 0.85, 1.294, 1.627),
        ('small', (5, 10, 15), 0.8, 3.565, 4.149),
        ('small', (5, 15), 0.75, 3.724, None),
        ('small', (5, 15), 0.8, 3.964, None),
        ('small', (5, 15), 0.7, 3.506, None),
        ('small', (5, 10, 15, 20), 0.8, 3.480, None),
    ],
)
def test_costs_are_the_counted_ones(arch, layers, ratio, paper, exact):
    reduction = {**HA, 'prune_layers': layers, 'keep_ratio': ratio}
    for family in (VisionMamba, VideoMamba):
        with torch.device('meta'):
            model = family(arch, reduction=reduction)
        for convention, wanted in (('paper', paper), ('exact', exact)):
            costs = stage_costs(model, (14, 14), convention)
            gmacs = (costs.full + 1000 * model.embed_dims) / 1e9
            assert wanted is None or round(gmacs, 3) == wanted


def test_alignment_costs_a_product_a_token_and_channel():
    model = make(HA)
    behind = 2 * 29 + 2 * 23
    for directions in (1, 2):
        wanted = directions * behind * 32
        assert model.reduction.extra_macs(model, 36, directions) == wanted
    none = make({**HA, 'alignment': 'none'})
    assert none.reduction.extra_macs(none, 36) == 0
    assert stage_costs(model, (6, 6)).extra == behind * 32


def test_layers_beyond_the_last_are_ignored_and_named(monkeypatch):
    said = []
    monkeypatch.setattr(
        hidden_align, 'print_log', lambda text, **_: said.append(text)
    )
    model = make({**HA, 'prune_layers': (2, 6, 9)})
    (text,) = said
    assert 'ignores prune_layers [6, 9]' in text
    with torch.no_grad(), observe(model) as records:
        model(images())
    assert records[0].lengths == [37, 37, 29, 29, 29, 29]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'keep_ratio': 0}, r'keep_ratio .*\(0, 1\], got 0'),
        ({'keep_ratio': 1.2}, 'keep_ratio .* got 1.2'),
        ({'keep_ratio': float('nan')}, 'keep_ratio .* got nan'),
        ({'alignment': 'hold'}, "alignment .*'decay', 'none'.* got 'hold'"),
        ({'score_source': 'l2'}, "score_source .*'scan'.* got 'l2'"),
        ({'prune_layers': (4, 2)}, r'ascending.*got \(4, 2\)'),
        ({'prune_layers': (2, 2)}, r'without repeats.*got \(2, 2\)'),
        ({'prune_layers': (0, 2)}, r'1 or more.*got \(0, 2\)'),
        ({'prune_layers': 5}, 'such as .* got 5'),
        ({'prune_layers': None}, 'such as .* got None'),
        ({'prune_layers': '5'}, "such as .* got '5'"),
        ({'prune_layers': ('1', '2')}, r"such as .* got \('1', '2'\)"),
        ({'prune_layers': (1.5,)}, r'such as .* got \(1.5,\)'),
        ({'round_even': 'no'}, "round_even must be True or False, got 'no'"),
    ],
)
def test_what_cannot_be_pruned_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make({**HA, **options})


def test_scoping_and_other_families_are_refused():
    with pytest.raises(ValueError, match='reduction=HiddenAlign'):
        MambaScope(arch=ARCH, img_size=64, reduction=HA)

    class Another(VisionMamba):
        blocks, family = 'attention', 'Another'

    with pytest.raises(ValueError, match='HiddenAlign is for ViM .*Another'):
        make(HA, Another)
