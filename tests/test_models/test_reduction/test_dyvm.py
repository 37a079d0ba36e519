"""DyVM in evaluation: what is kept, what is skipped, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from builders.dyvm import ARCH, MAPS, NO_CLS, images, make, trained
from torch import nn

from mmscope.analysis.costs import stage_costs
from mmscope.models import (
    MambaScope,
    VideoMamba,
    VisionMamba,
    forced_decisions,
    observe,
    reduces_tokens,
)
from mmscope.models.reduction import DyVM

PATCHES = 16
FAMILIES = pytest.mark.parametrize('family', [VisionMamba, VideoMamba])
KINDS = pytest.mark.parametrize(
    'options', [{}, MAPS, NO_CLS], ids=['cls', 'maps', 'no_cls']
)


def flags(*shape):
    return torch.ones(shape, dtype=torch.bool)


def flat(outputs):
    return torch.cat([x.flatten(1) for x in outputs], 1)


@torch.no_grad()
@FAMILIES
@KINDS
def test_a_batch_is_as_one_by_one(family, options):
    model = trained(make(family, **options))
    imgs = images()
    with observe(model) as records:
        together = model(imgs)
        alone = [model(imgs[i : i + 1]) for i in range(len(imgs))]
    first, *others = records
    for i, record in enumerate(others):
        for s, stage in enumerate(record.reductions):
            kept = first.reductions[s].kept[i : i + 1]
            assert torch.equal(kept, stage.kept)
        assert torch.equal(first.block_policy[:, i], record.block_policy[:, 0])
        torch.testing.assert_close(
            flat(alone[i])[0], flat(together)[i], rtol=1e-4, atol=1e-5
        )
    # The images differ in what they keep and in what they skip.
    assert len(first.reductions[0].kept.unique(dim=0)) > 1
    assert (first.block_policy[1:].float().mean(1) == 0.5).all()


@torch.no_grad()
def test_counts_are_cut_off_not_rounded():
    # 0.7 * 16 = 11.2, 0.49 * 16 = 7.84: rounding would keep 8.
    model = make()
    with observe(model) as records:
        model(images(2))
    (record,) = records
    assert [stage.kept.shape[1] for stage in record.reductions] == [11, 7]
    assert record.lengths == [17, 12, 12, 8]
    assert record.lengths == model.reduction.lengths(model, PATCHES)
    # Float noise counts: 0.7 ** 2 * 100 is below 49.
    assert model.reduction.count(1, 100) == 48


@torch.no_grad()
@pytest.mark.parametrize(
    ('family', 'place'), [(VisionMamba, 3), (VideoMamba, 0)]
)
def test_cls_stands_where_the_family_has_it_among_what_is_left(family, place):
    model, seen = make(family), []
    model.layers[3].register_forward_hook(lambda *call: seen.append(call[1]))
    plain = []
    model.layers[2].register_forward_hook(lambda *call: plain.append(call[-1]))
    model(images(2))
    before = plain[0][0]
    # 11 patches before, 7 after.
    old = {3: 5, 0: 0}[place]
    assert torch.equal(seen[0][0][:, place], before[:, old])


@torch.no_grad()
@FAMILIES
@KINDS
def test_keeping_all_and_running_both_is_the_family_bit_for_bit(
    family, options
):
    model = make(family, {'token_keep_ratio': 1.0}, **options)
    plain = family(arch=ARCH, img_size=64, **options).eval()
    state = model.state_dict()
    plain.load_state_dict({k: state[k] for k in plain.state_dict()})
    with observe(model) as records:
        outputs = model(images())
    for a, b in zip(outputs, plain(images()), strict=True):
        assert torch.equal(a, b)
    (record,) = records
    assert record.block_policy.all()
    everything = torch.arange(PATCHES).expand(4, -1)
    assert len(record.reductions) == 2
    for stage in record.reductions:
        assert torch.equal(stage.kept, everything)


@torch.no_grad()
def test_at_the_start_every_direction_runs():
    model = make()
    with observe(model) as records:
        model(images())
    assert records[0].block_policy.shape == (4, 4, 2)
    assert records[0].block_policy.all()


@torch.no_grad()
def test_a_direction_that_is_off_adds_nothing():
    model, seen = make(), []
    block = model.layers[2]
    block.register_forward_hook(lambda *call: seen.append(call[-1][0]))
    nothing = torch.zeros(4, 2, 2, dtype=torch.bool)
    both = []
    for on in ([0], [1], [0, 1], []):
        blocks = nothing.clone()
        blocks[:2] = True
        blocks[2, :, on] = True
        with forced_decisions(model, blocks=blocks):
            model(images(2))
        both.append(seen.pop())
    forward, backward, mixed, none = both
    torch.testing.assert_close(forward + backward, mixed)
    assert not torch.allclose(forward, backward)
    assert torch.equal(none, torch.zeros_like(none))


@torch.no_grad()
@pytest.mark.parametrize('options', [MAPS, NO_CLS], ids=['maps', 'no_cls'])
def test_maps_show_pruned_patches_as_they_were(options):
    model = trained(make(**options, last_norm=False))
    blocks = flags(4, 4, 2)
    with observe(model) as records, forced_decisions(model, blocks=blocks):
        maps = [m.flatten(2).mT for m in model(images())]
    first, second = (
        torch.zeros(4, PATCHES, dtype=torch.bool).scatter(1, stage.kept, True)
        for stage in records[0].reductions
    )
    # Stages stand before blocks 1 and 3.
    assert torch.equal(maps[1][~first], maps[0][~first])
    assert torch.equal(maps[3][~first], maps[0][~first])
    late = first & ~second
    assert torch.equal(maps[3][late], maps[2][late])
    for i, alive in ((1, first), (3, second)):
        same = torch.isclose(maps[i][alive], maps[i - 1][alive]).all(1)
        assert not same.any()


@torch.no_grad()
def test_forced_decisions_are_taken_and_let_go():
    model = trained(make())
    alive = torch.zeros(2, PATCHES, dtype=torch.bool)
    first, second = alive.clone(), alive.clone()
    first[0, :5], first[1, 8:13] = True, True
    second[0, 3:5], second[1, 9:11] = True, True
    blocks = torch.rand(4, 2, 2) > 0.5
    with observe(model) as records:
        own = model(images(2))[0]
        with forced_decisions(model, [first, second], blocks):
            forced = model(images(2))[0]
        again = model(images(2))[0]
    kept = [stage.kept.tolist() for stage in records[1].reductions]
    assert kept == [
        [[0, 1, 2, 3, 4], [8, 9, 10, 11, 12]],
        [[3, 4], [9, 10]],
    ]
    assert torch.equal(records[1].block_policy, blocks)
    assert not torch.allclose(forced, own)
    assert torch.equal(own, again)


@pytest.mark.parametrize(
    ('forced', 'message'),
    [
        ({'tokens': [flags(2, 16)]}, 'of 1 stages, this model prunes in 2'),
        ({'tokens': [flags(2, 15)] * 2}, r'tokens\[0\] must be \(2, 16\)'),
        ({'tokens': [flags(2, 16).float()] * 2}, 'torch.float32'),
        ({'tokens': [~flags(2, 16), flags(2, 16)]}, 'cannot come back'),
        ({'blocks': flags(4, 3, 2)}, r'blocks must be \(4, 2, 2\)'),
    ],
)
def test_forced_decisions_that_do_not_fit_are_refused(forced, message):
    model = make()
    with pytest.raises(ValueError, match=message):
        with forced_decisions(model, **forced):
            model(images(2))
    # Not a trace is left.
    assert model.reduction.forced.tokens is None


def test_images_that_keep_different_numbers_cannot_be_one_batch():
    model, uneven = make(), flags(2, 16)
    uneven[0, 3] = False
    with forced_decisions(model, [uneven, uneven]):
        with pytest.raises(ValueError, match=r'keep \[15, 16\] patches'):
            model(images(2))


def test_decisions_are_forced_on_dyvm_alone():
    with pytest.raises(ValueError, match='reduces no tokens'):
        with forced_decisions(VisionMamba(arch=ARCH, img_size=64)):
            pass
    other = VisionMamba(
        arch=ARCH, img_size=64, reduction={'type': 'mmscope.RMeeTo'}
    )
    with pytest.raises(ValueError, match='RMeeTo takes no forced'):
        with forced_decisions(other):
            pass


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'token_keep_ratio': 0.0}, r'token_keep_ratio must lie in \(0, 1\]'),
        ({'token_keep_ratio': 1.5}, r'got 1.5'),
        ({'block_keep_ratio': -0.1}, 'block_keep_ratio must lie'),
        ({'token_keep_ratio': float('nan')}, 'got nan'),
        ({'ratio_weight': -1}, 'ratio_weight must be >= 0'),
        ({'ratio_weight': float('inf')}, 'and finite, got inf'),
        ({'prune_layers': (3, 1)}, 'prune_layers must be ascending'),
        ({'prune_layers': (1, 1)}, 'without repeats'),
        ({'prune_layers': (0, 2)}, '1 or more'),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DyVM(**options)


def test_layers_beyond_the_last_are_ignored_and_named(caplog):
    model = make(reduction={'prune_layers': (2, 6)})
    assert len(model.score_predictors) == 1
    assert model.reduction.lengths(model, PATCHES) == [17, 17, 12, 12]


def test_forced_decisions_that_are_no_tensors_are_refused():
    model = make()
    with forced_decisions(model, blocks=[[True, True]]):
        with pytest.raises(ValueError, match='forced blocks .* got list'):
            model(images(1))


class Adapter(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base

    def forward(self, row):
        return self.base(row)


@torch.no_grad()
def test_a_block_head_may_be_replaced_by_an_adapter():
    model = trained(make())
    expected = model(images())[0]
    for block in model.layers:
        block.mixer.block_head = Adapter(block.mixer.block_head)
    assert torch.equal(model(images())[0], expected)


@torch.no_grad()
@pytest.mark.parametrize('maps', [{}, MAPS])
def test_no_images_give_no_features(maps):
    for feature in make(**maps)(images(0)):
        assert feature.shape[:2] == (0, 16)


def test_more_stages_than_there_are_predictors_are_refused():
    model = make()
    model.reduction.prune_layers = (1, 2, 3)
    with pytest.raises(ValueError, match=r'built with 2 .* \(1, 2, 3\)'):
        model(images(1))
    model.reduction.prune_layers = (2,)
    with observe(model) as records:
        model(images(1))
    assert records[0].lengths == [17, 17, 12, 12]


def test_scoping_and_dyvm_exclude_each_other():
    with pytest.raises(ValueError, match='reduction=DyVM'):
        make(MambaScope)


def test_channels_that_cannot_be_quartered_are_refused():
    with pytest.raises(ValueError, match='multiple of 4, got 18'):
        make(arch={'embed_dims': 18, 'num_layers': 4})


def test_no_token_left_is_refused_where_there_is_no_cls():
    options = {'token_keep_ratio': 0.2}
    with pytest.raises(ValueError, match='leaves none of 16 patches'):
        make(reduction=options, **NO_CLS)(images(1))
    # cls goes on alone.
    model = make(reduction=options)
    with observe(model) as records:
        model(images(1))
    assert records[0].lengths == [17, 4, 4, 1]


def test_names_are_the_released_ones():
    model = make()
    plain = VisionMamba(arch=ARCH, img_size=64)
    added = set(model.state_dict()) - set(plain.state_dict())
    wanted = {
        f'score_predictors.{s}.{part}.{kind}'
        for s in range(2)
        for part in (
            'in_conv.0',
            'in_conv.1',
            'out_conv.0',
            'out_conv.2',
            'out_conv.4',
        )
        for kind in ('weight', 'bias')
    }
    wanted |= {
        f'layers.{i}.mixer.block_head.{kind}'
        for i in range(4)
        for kind in ('weight', 'bias')
    }
    assert added == wanted
    assert reduces_tokens(model)


def test_weights_of_a_vim_leave_predictors_and_heads_and_say_so():
    model = make()
    plain = VisionMamba(arch=ARCH, img_size=64)
    missing = model.load_state_dict(plain.state_dict(), strict=False)
    assert 'score_predictors.1.out_conv.4.bias' in missing.missing_keys
    assert 'layers.3.mixer.block_head.weight' in missing.missing_keys
    assert not missing.unexpected_keys
    with pytest.raises(RuntimeError, match='score_predictors'):
        model.load_state_dict(plain.state_dict())


def test_initial_values_survive_an_init_cfg_of_all_linear_layers():
    stock = {'type': 'TruncNormal', 'layer': 'Linear', 'std': 3.0, 'bias': 1.0}
    model = make(init_cfg=stock)
    model.init_weights()
    for block in model.layers:
        head = block.mixer.block_head
        assert torch.equal(head.weight, torch.zeros_like(head.weight))
        assert torch.equal(head.bias, torch.full((2,), 5.0))
    layer = model.score_predictors[0].out_conv[0]
    assert layer.weight.abs().max() < 0.1
    assert not layer.bias.any()
    # Loaded ones stay.
    with torch.no_grad():
        head.bias.fill_(-1.0)
    model.init_weights()
    assert torch.equal(head.bias, torch.full((2,), -1.0))


@pytest.mark.parametrize(
    ('arch', 'ratios', 'count', 'paper', 'exact'),
    [
        ('tiny', (0.9, 0.8), 7_367_086, 1.215, 1.472),
        ('small', (0.7, 0.8), 26_594_110, 3.239, 3.663),
        ('base', (0.7, 0.7), 100_631_134, 12.042, 12.939),
    ],
)
def test_parameters_are_exact_and_costs_as_counted_by_the_code(
    arch, ratios, count, paper, exact
):
    reduction = {
        'type': 'mmscope.DyVM',
        'token_keep_ratio': ratios[0],
        'block_keep_ratio': ratios[1],
    }
    with torch.device('meta'):
        model = VisionMamba(arch=arch, reduction=reduction)
        head = nn.Linear(model.summary_dims, 1000)
    parts = [*model.parameters(), *head.parameters()]
    assert sum(p.numel() for p in parts) == count
    for convention, wanted in (('paper', paper), ('exact', exact)):
        macs = stage_costs(model, model.grid, convention).fine
        found = (macs + head.weight.numel()) / 1e9
        assert found == pytest.approx(wanted, abs=0.002)


@torch.no_grad()
def test_a_copy_decides_by_modules_of_its_own():
    model = trained(make())
    other = copy.deepcopy(model)
    before = model(images())[0]
    for block in other.layers:
        block.mixer.block_head.bias.fill_(-100.0)
    assert torch.equal(model(images())[0], before)
    assert not torch.allclose(other(images())[0], before)


@torch.no_grad()
def test_it_runs_in_half_precision_and_under_autocast():
    model = trained(make())
    exact = model(images())[0]
    with torch.autocast('cpu', torch.bfloat16):
        mixed = model(images())[0]
    assert torch.isfinite(mixed).all()
    assert mixed.shape == exact.shape
    half = model.bfloat16()(images().bfloat16())[0]
    assert torch.isfinite(half).all()


@torch.no_grad()
def test_a_higher_block_threshold_runs_fewer_directions():
    model = trained(make(VisionMamba))
    ran = []
    for threshold in (0.001, 0.5, 0.999):
        model.reduction.block_threshold = threshold
        with observe(model) as records:
            model(images())
        ran.append(records[0].block_policy.float().mean())
    assert ran[0] == 1
    assert ran[0] > ran[1] > ran[2] == 0


@pytest.mark.parametrize('name', ['token_keep_ratio', 'block_threshold'])
@pytest.mark.parametrize('value', [0, 1.5, '0.5', True, float('nan')])
def test_settings_are_checked_when_they_are_set(name, value):
    reduction = DyVM()
    before = getattr(reduction, name)
    with pytest.raises(ValueError, match=f'{name} must lie in .* got'):
        setattr(reduction, name, value)
    assert getattr(reduction, name) == before
