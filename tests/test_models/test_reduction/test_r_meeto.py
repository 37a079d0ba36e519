"""R-MeeTo: the released model's merges, and what merging must not do."""

from __future__ import annotations

import pytest
import torch
from builders.released import relative
from reduced import (
    FAMILIES,
    KINDS,
    MAPS,
    assert_training_recomputes,
    images,
    load,
    make,
    one_by_one,
)

from mmscope.analysis import count_costs, stage_costs
from mmscope.models import MambaScope, VideoMamba, VisionMamba, observe
from mmscope.models.reduction.merging import Merge, match
from mmscope.models.reduction.r_meeto import MergeSteps

R_MEETO = {'type': 'mmscope.RMeeTo', 'merge_tokens': 4}


@torch.no_grad()
@pytest.mark.parametrize('backend', ['reference', 'cpu'])
@pytest.mark.parametrize(
    ('file', 'family'),
    [
        ('rmeeto_vim_dev.npz', VisionMamba),
        ('rmeeto_videomamba_dev.npz', VideoMamba),
    ],
)
def test_it_merges_what_the_released_model_merges(file, family, backend):
    model, head, wanted = load(file, family, R_MEETO, backend)
    with observe(model) as records:
        logits = head(model(wanted['image'].float())[0])
    stages = records[0].reductions
    assert f'merge{len(stages)}/step_group' not in wanted
    for i, stage in enumerate(stages):
        groups = wanted[f'merge{i}/group_of_input'].long()
        assert torch.equal(stage.group_of_input, groups)
        before, after = wanted[f'merge{i}/cls_position'].tolist()
        place = model.summary_tokens.places(36)[0]
        assert (stage.group_of_input[:, place] == after).all()
    assert relative(logits, wanted['logits']) < 2e-4


# -------------------------------------------------------------- one merge


def merge_of(patches, count, places):
    return Merge.of(match(patches, count), count, places)


@pytest.mark.parametrize('num_patches', [2, 3, 8, 9, 36])
@pytest.mark.parametrize('place', [None, 0, 1, 'middle', 'last'])
def test_groups_are_a_partition_that_keeps_the_order(num_patches, place):
    patches = torch.randn(3, num_patches, 5, generator=torch.manual_seed(0))
    named = {'middle': num_patches // 2, 'last': num_patches}
    places = () if place is None else (named.get(place, place),)
    length = num_patches + len(places)
    for count in range(num_patches // 2 + 1):
        merge = merge_of(patches, count, places)
        assert merge.group.shape == (3, length)
        assert merge.length == length - count
        for group in merge.group:
            assert group.unique().tolist() == list(range(length - count))
            # Who stays alone or is a destination keeps its order.
            is_first = [(group[:i] != g).all() for i, g in enumerate(group)]
            odd = torch.arange(num_patches) % 2 == 1
            if not places:
                assert group[odd].diff().gt(0).all()
            elif count == 0:
                # Nothing moves but cls, where the floor takes it.
                assert all(is_first)
        if places:
            new = places[0] * (length - count) // length
            assert merge.places == (new,)
            assert (merge.group[:, places[0]] == new).all()
            # cls stays alone.
            assert ((merge.group == new).sum(1) == 1).all()
        sizes = merge.sum(torch.ones(3, length, 1))
        assert (sizes.sum(1) == length).all()


def test_the_most_similar_go_to_their_best_destination_by_hand():
    e = torch.eye(3)
    #          s0         d0    s1               d1    s2
    rows = [e[0] + e[1], e[0], 3 * e[1], 0.1 * e[1], e[2]]
    patches = torch.stack(rows)[None]
    # s1 is d1 but for its length; s0 is as like to both: the first one.
    assert match(patches, 1).tolist() == [[0, 1, 3, 3, 4]]
    assert match(patches, 2).tolist() == [[1, 1, 3, 3, 4]]
    merge = merge_of(patches, 2, (2,))
    assert merge.places == (1,)  # floor(2 * 4 / 6)
    assert merge.group.tolist() == [[0, 0, 1, 2, 2, 3]]
    values = torch.tensor([1.0, 3.0, 10.0, 4.0, 8.0, 5.0]).view(1, 6, 1)
    sizes = torch.tensor([1.0, 3.0, 1.0, 1.0, 1.0, 2.0]).view(1, 6, 1)
    mean = merge.mean(values, sizes).flatten().tolist()
    assert mean == [2.5, 10.0, 6.0, 5.0]


@pytest.mark.parametrize('value', [0.0, 1.0])
def test_equal_patches_go_by_their_index(value):
    patches = torch.full((2, 9, 4), value)
    wanted = [1, 1, 1, 3, 4, 5, 6, 7, 8]
    assert match(patches, 2).tolist() == [wanted] * 2


def test_half_precision_is_matched_in_full():
    # Nearly alike: products in half precision tie.
    noise = torch.randn(2, 196, 32, generator=torch.manual_seed(0))
    half = (1 + noise / 4).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        found = match(half, 40)
    assert torch.equal(found, match(half.float(), 40))


# ---------------------------------------------------------- in a backbone


@torch.no_grad()
@FAMILIES
@KINDS
def test_with_nothing_to_merge_it_is_the_family_bit_for_bit(family, options):
    model = make({**R_MEETO, 'merge_tokens': 0}, family, **options)
    plain = make(None, family, **options)
    assert list(model.state_dict()) == list(plain.state_dict())
    for a, b in zip(model(images()), plain(images()), strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
@FAMILIES
@KINDS
@pytest.mark.parametrize('size', [(48, 48), (40, 56)], ids=['36', '35'])
def test_a_batch_is_as_one_by_one(family, options, size):
    model = make(R_MEETO, family, **options)
    imgs = images(3, *size)
    first = one_by_one(model, imgs, 'group_of_input')
    patches = size[0] * size[1] // 64
    assert first.lengths == model.reduction.lengths(model, patches)
    assert first.lengths[0] - first.lengths[-1] == 8


@torch.no_grad()
def test_a_merge_that_is_too_large_takes_half_of_the_patches():
    model = make({**R_MEETO, 'merge_tokens': 99, 'merge_interval': 1})
    with observe(model) as records:
        model(images(2))
    lengths = [37, 19, 10, 6, 4, 3]
    assert records[0].lengths == lengths
    assert model.reduction.lengths(model, 36) == lengths
    # Of one patch nothing can go.
    with observe(model) as records:
        model(images(2, 8, 16))
    assert records[0].lengths == [3, 2, 2, 2, 2, 2]
    assert len(records[0].reductions) == 1


@torch.no_grad()
@FAMILIES
@KINDS
def test_sizes_add_up_to_the_tokens_at_the_start(family, options):
    model, passes = make(R_MEETO, family, **options), []
    model.reduction.start = lambda *_: (
        passes.append(MergeSteps(model.reduction)) or passes[0]
    )
    model(images())
    length = 36 + model.summary_tokens.count
    (steps,) = passes
    assert (steps.sizes.sum((1, 2)) == length).all()
    counts = torch.stack(
        [g.bincount() for g in steps.stages[-1].group_of_input]
    )
    assert torch.equal(steps.sizes[..., 0], counts.float())


@torch.no_grad()
@FAMILIES
@pytest.mark.parametrize('summary', ['middle', 'none'])
def test_each_cell_of_a_map_shows_the_token_of_its_group(family, summary):
    options = {**MAPS, 'summary_position': summary}
    model, imgs = make(R_MEETO, family, **options), images(2, 40, 56)
    with observe(model) as records:
        maps = model(imgs)
    assert [m.shape for m in maps] == [(2, 16, 5, 7)] * 3
    plain = make(None, family, **options)(imgs)
    assert torch.equal(maps[0], plain[0])
    for level, stage in zip(maps[1:], records[0].reductions, strict=True):
        values = level.flatten(2).mT
        groups = model.summary_tokens.split(stage.group_of_input[..., None])
        groups = groups[0][..., 0]
        same = groups[:, :, None] == groups[:, None]
        for value, alike in zip(values, same, strict=True):
            equal = (value[:, None] == value[None]).all(-1)
            assert torch.equal(equal, alike)


@torch.no_grad()
@pytest.mark.parametrize('value', [0.0, 0.3])
def test_a_constant_image_merges_the_same_way_each_time(value):
    model = make(R_MEETO)
    model.pos_embed.zero_()
    model.patch_embed.proj.bias.zero_()
    imgs = torch.full((2, 3, 48, 48), value)
    with observe(model) as records:
        first, second = model(imgs)[0], model(imgs)[0]
    assert torch.equal(first, second)
    assert first.isfinite().all()
    for a, b in zip(records[0].reductions, records[1].reductions, strict=True):
        assert torch.equal(a.group_of_input, b.group_of_input)


@FAMILIES
@pytest.mark.parametrize('options', [{}, MAPS], ids=['cls', 'maps'])
def test_training_merges_too_and_recomputes_the_same(family, options):
    assert_training_recomputes(R_MEETO, family, options)


def test_mixed_precision_keeps_the_dtypes():
    model = make(R_MEETO).train()
    dtypes = []
    for block in model.layers:
        block.register_forward_pre_hook(
            lambda _, args: (
                dtypes.append((args[0].dtype, args[1].dtype))
                if args[1] is not None
                else None
            )
        )
    with torch.autocast('cpu', torch.bfloat16):
        out = model(images())[0]
    assert dtypes == [(torch.bfloat16, torch.float32)] * 5
    out.float().square().mean().backward()
    assert model.cls_token.grad.isfinite().all()


@torch.no_grad()
def test_it_is_one_graph_for_a_compiler():
    if not hasattr(torch.library, 'register_fake'):
        pytest.skip('needs torch >= 2.4')
    model = make(
        {**R_MEETO, 'merge_interval': 1},
        arch={'embed_dims': 16, 'num_layers': 3},
        scan_backend='cpu',
    )
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(images())[0], model(images())[0])


# ---------------------------------------------------- costs, and refusals


@pytest.mark.parametrize(
    ('arch', 'merge_tokens', 'paper', 'exact'),
    [
        ('tiny', 0, 1.449, 1.823),
        ('small', 0, 5.076, 5.912),
        ('base', 0, 18.867, 20.886),
        ('tiny', 5, 1.251, 1.572),
        ('small', 11, 3.535, 4.114),
        ('base', 11, 13.109, 14.508),
    ],
)
def test_costs_are_the_counted_ones(arch, merge_tokens, paper, exact):
    reduction = {**R_MEETO, 'merge_tokens': merge_tokens}
    for family in (VisionMamba, VideoMamba):
        with torch.device('meta'):
            model = family(arch, reduction=reduction)
        head = 1000 * model.embed_dims
        for convention, wanted in (('paper', paper), ('exact', exact)):
            costs = stage_costs(model, (14, 14), convention)
            assert round((costs.full + head) / 1e9, 3) == wanted
            assert costs.extra == model.reduction.extra_macs(model, 196)


def test_matching_costs_sources_times_destinations_times_channels():
    model = make({**R_MEETO, 'merge_tokens': 5})
    # 35, 30 patches before the merges of blocks 2 and 4.
    pairs = 18 * 17 + 15 * 15
    assert model.reduction.extra_macs(model, 35) == pairs * 16
    assert model.reduction.extra_macs(model, 1) == 0


@pytest.mark.parametrize(
    'reduction',
    [R_MEETO, {'type': 'mmscope.HiddenAlign', 'prune_layers': (2, 4)}],
    ids=['RMeeTo', 'HiddenAlign'],
)
def test_a_counted_forward_costs_the_closed_form(reduction):
    host = torch.nn.Module()
    host.backbone = make(reduction)
    found = count_costs(host, (40, 56), run=host.backbone)
    for convention in ('paper', 'exact'):
        closed = stage_costs(host.backbone, (5, 7), convention)
        assert found.costs(convention) == closed
        assert closed.extra > 0
        assert found.costs(convention, 'flops').extra == 2 * closed.extra
        rows = found.rows(convention)
        seen = sum(row.macs for row in rows if row.stage == 'extra')
        # The matching is products; the alignment is elementwise.
        assert seen == (closed.extra if reduction is R_MEETO else 0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'merge_tokens': -1}, 'merge_tokens .* got -1'),
        ({'merge_tokens': 2.5}, 'merge_tokens .* got 2.5'),
        ({'merge_interval': 0}, 'merge_interval .* got 0'),
        ({'merge_tokens': float('nan')}, 'merge_tokens .* got nan'),
        ({'merge_tokens': float('inf')}, 'merge_tokens .* got inf'),
    ],
)
def test_what_cannot_be_merged_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make({**R_MEETO, **options})


def test_scoping_and_other_families_are_refused():
    with pytest.raises(ValueError, match='reduction=RMeeTo'):
        make(R_MEETO, MambaScope)

    class Another(VisionMamba):
        blocks, family = 'attention', 'Another'

    with pytest.raises(ValueError, match='RMeeTo is for ViM .* got Another'):
        make(R_MEETO, Another)
