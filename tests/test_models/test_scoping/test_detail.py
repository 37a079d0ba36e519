"""What halving loses: as an importance, and as a number of regions."""

import numpy as np
import pytest
import torch

from mmscope.models import MambaScope, VideoMambaScope, observe
from mmscope.models.scoping import count_covering, lost_detail
from mmscope.models.scoping.detail import COVERAGE_SHARES, rank_sum
from mmscope.models.scoping.stages import halved

ARCH = {'embed_dims': 16, 'num_layers': 4}


def make(family=MambaScope, **options):
    torch.manual_seed(0)
    options = {'img_size': 64, 'score_metric': 'detail', **options}
    return family(arch=ARCH, **options).eval()


def by_hand(img, patch_size):
    """The definition, value by value; img is (C, H, W)."""
    side = 2 * patch_size
    channels, height, width = img.shape
    found = []
    for top in range(0, height, side):
        for left in range(0, width, side):
            total = 0.0
            for y in range(top, top + side):
                for x in range(left, left + side):
                    y0, x0 = y - y % 2, x - x % 2
                    four = img[:, y0 : y0 + 2, x0 : x0 + 2].double()
                    mean = four.mean((1, 2))
                    total += float(
                        (img[:, y, x].double() - mean).square().sum()
                    )
            found.append(total / (side * side * channels))
    return torch.tensor(found, dtype=torch.float64)


def flat_but(*regions, size=(64, 96), side=32):
    """An image of one grey with noise in some regions of a grid."""
    img = torch.full((1, 3, *size), 0.3)
    columns = size[1] // side
    noise = torch.Generator().manual_seed(5)
    for strength, region in enumerate(regions, 1):
        row, column = divmod(region, columns)
        where = (
            slice(row * side, row * side + side),
            slice(column * side, column * side + side),
        )
        drawn = torch.randn(3, side, side, generator=noise)
        img[0][(slice(None), *where)] += strength * drawn
    return img


def test_it_is_the_energy_between_an_image_and_its_half():
    imgs = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    found = lost_detail(imgs, halved(imgs), patch_size=2)
    assert found.dtype == torch.float32
    for img, energy in zip(imgs, found, strict=True):
        torch.testing.assert_close(energy.double(), by_hand(img, 2))


def test_what_is_flat_or_the_same_in_each_2x2_loses_nothing():
    blocks = torch.randn(1, 3, 16, 16).repeat_interleave(2, 2)
    blocks = blocks.repeat_interleave(2, 3)
    assert not lost_detail(blocks, halved(blocks), 8).any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_it_is_measured_in_float32_and_has_no_gradient(dtype):
    imgs = torch.randn(1, 3, 32, 32).to(dtype).requires_grad_()
    found = lost_detail(imgs, halved(imgs.float()).to(dtype), 8)
    assert found.dtype == torch.float32
    assert not found.requires_grad


@torch.no_grad()
@pytest.mark.parametrize('family', [MambaScope, VideoMambaScope])
def test_the_noisy_regions_are_refined(family):
    model = make(family, refine_ratio=0.5)
    with observe(model) as records:
        model(flat_but(5, 0, 4))
    assert records[0].refined.flatten().nonzero()[:, 0].tolist() == [0, 4, 5]
    model.score_metric = 'max_norm'
    with observe(model) as records:
        model(flat_but(5, 0, 4))
    refined = records[0].refined.flatten().nonzero()[:, 0].tolist()
    assert refined != [0, 4, 5]


@torch.no_grad()
def test_equal_regions_are_taken_by_their_index():
    model = make(refine_ratio=0.5)
    with observe(model) as records:
        model(torch.full((1, 3, 64, 96), 0.7))
    assert records[0].refined.flatten().nonzero()[:, 0].tolist() == [0, 1, 2]


@torch.no_grad()
def test_the_coarse_stage_scores_nothing_for_it():
    asked = []
    for metric in ('max_norm', 'detail', 'detail_and_max_norm'):
        model = make(score_metric=metric)
        scores = []
        for layer in model.layers:
            layer.mixer.register_forward_hook(
                lambda _, args, __, kept=scores: kept.append(args[1].score)
            )
        model.forward_coarse(torch.randn(1, 3, 64, 64))
        asked.append(scores)
    assert asked[0] == asked[2] == [None, None, 'max_norm', None]
    assert asked[1] == [None] * 4


def test_ranks_are_added_and_ties_go_to_the_smaller_index():
    one = torch.tensor([[9.0, 5.0, 1.0]])
    other = torch.tensor([[0.0, 20.0, 0.0]])
    # Ranks 0, 1, 2 and 1, 0, 2.
    assert rank_sum(one, other).tolist() == [[-1.0, -1.0, -4.0]]


@torch.no_grad()
def test_both_together_are_the_sum_of_the_ranks():
    imgs = flat_but(5, 0, 4) + 0.1 * torch.randn(1, 3, 64, 96)
    both = make(score_metric='detail_and_max_norm').forward_coarse(imgs)
    alone = [
        make(score_metric=metric).forward_coarse(imgs).importance
        for metric in ('detail', 'max_norm')
    ]
    assert torch.equal(both.importance, rank_sum(*alone))


def test_an_unknown_importance_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"detail_and_max_norm.*'sharpness'"):
        make(score_metric='sharpness')


# Sorted energies 8, 4, 2, 1, 1, 0, 0, 0 of 8 regions; 2, 3, .. 8 are allowed.
ENERGY = torch.tensor([[1.0, 0, 8, 4, 0, 2, 1, 0]])


@pytest.mark.parametrize(
    ('coverage', 'count'),
    [(0.1, 2), (0.75, 2), (0.76, 3), (0.875, 3), (0.9, 4), (1.0, 5)],
)
def test_the_smallest_number_that_holds_the_share_is_taken(coverage, count):
    assert COVERAGE_SHARES[0] * 8 == 2
    assert count_covering(ENERGY, coverage).tolist() == [count]


def test_an_image_without_any_detail_gets_the_smallest_number():
    assert count_covering(torch.zeros(1, 16), 0.9).tolist() == [4]
    assert count_covering(torch.ones(1, 16), 1.0).tolist() == [16]


def test_counting_asks_for_nothing_that_cuda_has_no_fixed_order_of():
    from torch.utils._python_dispatch import TorchDispatchMode

    ran = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            ran.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Watch():
        count_covering(ENERGY, 0.9)
    assert 'sort' in ran
    assert 'cumsum' not in ran


def two_images():
    return torch.cat([flat_but(5), torch.randn(1, 3, 64, 96), flat_but(2)])


@torch.no_grad()
@pytest.mark.parametrize('out_type', ['cls_token', 'featmap'])
@pytest.mark.parametrize('order', ['first', 'woven'])
def test_coverage_gives_each_image_its_own_number(out_type, order):
    model = make(
        refine_coverage=0.9,
        out_type=out_type,
        token_order=order,
        img_size=(64, 96),
    )
    imgs = two_images()
    with observe(model) as records:
        together = model(imgs)
    (record,) = records
    assert record.regions_to_refine.tolist() == [2, 6, 2]
    assert record.refined.flatten(1).sum(1).tolist() == [2, 6, 2]
    assert record.added_tokens.tolist() == [13, 25, 13]
    assert record.fine_lengths == [25] * 4
    for i, img in enumerate(imgs):
        for both, alone in zip(together, model(img[None]), strict=True):
            torch.testing.assert_close(both[i : i + 1], alone)


@torch.no_grad()
def test_covering_everything_refines_everything():
    model = make(refine_coverage=1.0)
    fixed = make(refine_ratio=1.0)
    imgs = torch.randn(2, 3, 64, 64)
    assert torch.equal(model(imgs)[0], fixed(imgs)[0])


def test_coverage_trains_with_its_groups_in_order():
    model = make(refine_coverage=0.9, img_size=(64, 96)).train()
    imgs = two_images()
    _, fine = model(imgs)
    fine.square().sum().backward()
    for name, param in model.named_parameters():
        assert param.grad is not None, name
    model.eval()
    torch.testing.assert_close(model(imgs)[0], fine)


def test_selection_off_refines_all_whatever_the_coverage():
    model = make(refine_coverage=0.9)
    model.selection = False
    with torch.no_grad(), observe(model) as records:
        model(flat_but(0, size=(64, 64)))
    assert records[0].refined.all()


def test_images_with_different_numbers_have_no_one_number_of_tokens():
    model = make(refine_coverage=0.9, img_size=(64, 96))
    with torch.no_grad():
        model(two_images())
    with pytest.raises(ValueError, match=r'\[13, 25, 13\].*added_tokens'):
        _ = model.last_exit.fine_tokens


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'refine_coverage': 0.9, 'refine_ratio': 0.8},
            'both say how many regions',
        ),
        (
            {'refine_coverage': 0.9, 'score_metric': 'max_norm'},
            "needs score_metric='detail', got 'max_norm'",
        ),
        ({'refine_coverage': 0}, r'in \(0, 1\], got 0'),
        ({'refine_coverage': 1.5}, r'in \(0, 1\], got 1.5'),
        ({'refine_coverage': '0.9'}, r"in \(0, 1\], got '0.9'"),
        ({'refine_coverage': True}, r'in \(0, 1\], got True'),
    ],
)
def test_nonsense_coverage_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_number_of_numpy_is_a_coverage():
    assert make(refine_coverage=np.float32(0.5)).refine_coverage == 0.5


def test_settings_of_scores_that_nobody_asks_for_are_named(said):
    make(score_layers=[1])
    make(score_layers=[1], score_metric='detail_and_max_norm')
    make(score_momentum=0.5)
    layers, momentum = (
        record.getMessage()
        for record in said.records
        if 'decide nothing' in record.getMessage()
    )
    assert layers.startswith('score_layers=[1] will decide nothing')
    assert momentum.startswith('score_momentum=0.5 will decide nothing')


@torch.no_grad()
def test_of_ratio_and_coverage_the_last_one_that_is_set_decides():
    model, imgs = make(img_size=(64, 96), refine_ratio=0.4), two_images()

    def counts():
        with observe(model) as records:
            model(imgs)
        return records[0].refined.flatten(1).sum(1).tolist()

    assert counts() == [3, 3, 3]
    model.refine_coverage = 0.9
    assert (counts(), model.refine_ratio) == ([2, 6, 2], None)
    model.refine_ratio = 1.0
    assert (counts(), model.refine_coverage) == ([6, 6, 6], None)
    model.score_metric = 'max_norm'
    with pytest.raises(ValueError, match='refine_ratio=None needs a refine'):
        model.refine_ratio = None
    model.score_metric, model.refine_coverage = 'detail', 0.9
    model.refine_coverage = None
    assert (counts(), model.refine_ratio) == ([5, 5, 5], 0.8)


@pytest.mark.parametrize('ratio', ['0.8', [0.8], float('nan')])
def test_a_refine_ratio_that_is_no_number_is_refused(ratio):
    with pytest.raises(ValueError, match='refine_ratio must lie in .* got'):
        make(refine_ratio=ratio)
