import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmscope.models.layers import SummaryTokens
from mmscope.models.scoping import (
    CLS_POSITIONS,
    TOKEN_ORDERS,
    FineLayout,
    fine_children,
    num_refined,
    split_regions,
)


@pytest.mark.parametrize('grid', [(1, 1), (2, 3), (5, 2), (7, 7)])
def test_children_equal_a_brute_force_map(grid):
    rows, columns = grid
    regions = torch.arange(rows * columns).unsqueeze(0)
    children = fine_children(regions, columns)[0]
    fine = torch.arange(4 * rows * columns).reshape(2 * rows, 2 * columns)
    for region in range(rows * columns):
        r, c = divmod(region, columns)
        block = fine[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].flatten()
        assert children[region].tolist() == block.tolist()


@pytest.mark.parametrize('side', [2, 5, 7])
def test_children_equal_equation_16_on_square_grids(side):
    for i in range(side * side):
        first = 4 * i - 2 * (i % side)
        expected = [first, first + 1, first + 2 * side, first + 2 * side + 1]
        actual = fine_children(torch.tensor([[i]]), side)[0, 0]
        assert actual.tolist() == expected


def test_number_of_refined_regions_is_guarded_against_float_noise():
    assert num_refined(0.7, 10) == 7
    assert num_refined(0.07, 100) == 7  # 0.07 * 100 = 7.000000000000001
    assert num_refined(0.29, 100) == 29  # 0.29 * 100 = 28.999999999999996
    assert num_refined(0.8, 49) == 40
    assert num_refined(0.0, 49) == 0
    assert num_refined(1.0, 49) == 49
    assert num_refined(0.001, 49) == 1


@pytest.mark.parametrize('ratio', [-0.1, 1.1, float('nan')])
def test_a_ratio_outside_zero_to_one_is_refused(ratio):
    with pytest.raises(ValueError, match='refine_ratio must lie in'):
        num_refined(ratio, 10)


def test_ties_go_to_the_smaller_index():
    importance = torch.tensor([[1.0, 2.0, 1.0, 2.0, 2.0, 1.0]])
    refined, kept = split_regions(importance, 4)
    assert refined.tolist() == [[0, 1, 3, 4]]
    assert kept.tolist() == [[2, 5]]


MIDDLE = SummaryTokens('middle', 1)


def hand_layout(cls_position='middle', **options):
    summary = SummaryTokens(CLS_POSITIONS[cls_position], 1)
    # Coarse grid 2 x 2, fine grid 4 x 4; regions 1 and 2 are refined.
    return FineLayout(
        (2, 2),
        torch.tensor([[1, 2]]),
        torch.tensor([[0, 3]]),
        summary,
        **options,
    )


def hand_tokens():
    fine = torch.arange(16.0).reshape(1, 16, 1)
    coarse = 100 + torch.arange(4.0).reshape(1, 4, 1)
    return fine, torch.full((1, 1, 1), -1.0), coarse


# Region 1 owns fine 2, 3, 6, 7; region 2 owns 8, 9, 12, 13. Region by region
# and raster order agree only because the regions lie in different rows.
IMPORTANT = [2, 3, 6, 7, 8, 9, 12, 13]


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({}, [2, 3, 6, 7, -1, 8, 9, 12, 13, 100, 103]),
        ({'cls_position': 'ahead'}, [-1, *IMPORTANT, 100, 103]),
        ({'cls_position': 'behind'}, [*IMPORTANT, -1, 100, 103]),
        (
            {'token_order': 'last'},
            [100, 103, 2, 3, 6, 7, -1, 8, 9, 12, 13],
        ),
        (
            {'token_order': 'last', 'cls_position': 'behind'},
            [100, 103, *IMPORTANT, -1],
        ),
        # Kept region 0 stands where its fine token 0 would, 3 at 10.
        (
            {'token_order': 'woven'},
            [100, 2, 3, 6, 7, -1, 8, 9, 103, 12, 13],
        ),
        (
            {'token_order': 'woven', 'cls_position': 'ahead'},
            [-1, 100, 2, 3, 6, 7, 8, 9, 103, 12, 13],
        ),
        (
            {'token_order': 'woven', 'cls_position': 'behind'},
            [100, 2, 3, 6, 7, 8, 9, 103, 12, 13, -1],
        ),
    ],
)
def test_sequence_equals_a_hand_written_one(options, expected):
    layout = hand_layout(**options)
    sequence = layout.arrange(*hand_tokens()).tokens[0, :, 0]
    assert sequence.tolist() == expected
    assert [sequence[place] for place in layout.places] == [-1]
    assert layout.num_tokens == len(expected)


def test_fine_tokens_of_neighbours_stand_in_raster_order():
    regions = torch.tensor([[0, 1]]), torch.tensor([[2, 3]])
    layout = FineLayout((2, 2), *regions, MIDDLE)
    # Not region by region, which would be 0, 1, 4, 5, 2, 3, 6, 7.
    assert layout.fine_index.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize('cls_position', ['middle', 'ahead', 'behind'])
@pytest.mark.parametrize('token_order', TOKEN_ORDERS)
def test_scatter_brings_every_token_home(cls_position, token_order):
    layout = hand_layout(cls_position=cls_position, token_order=token_order)
    fine, cls, coarse = hand_tokens()
    sequence = layout.arrange(fine, cls, coarse)
    grid = sequence.to_raster(sequence.tokens).reshape(4, 4)
    expected = fine.reshape(4, 4).clone()
    expected[:2, :2] = 100
    expected[2:, 2:] = 103
    assert torch.equal(grid, expected)


@pytest.mark.parametrize('k', [0, 1, 6])
@pytest.mark.parametrize('order', TOKEN_ORDERS)
def test_scatter_works_per_image_and_at_both_ends(k, order):
    torch.manual_seed(0)
    grid, batch, dims = (2, 3), 4, 5
    refined, kept = split_regions(torch.rand(batch, 6), k)
    layout = FineLayout(grid, refined, kept, MIDDLE, order)
    fine = torch.rand(batch, 24, dims)
    coarse = torch.rand(batch, 6, dims)
    cls = torch.full((batch, 1, dims), 9.0)
    sequence = layout.arrange(fine, cls, coarse)
    result = sequence.to_raster(sequence.tokens)
    for image in range(batch):
        for region in range(6):
            cells = fine_children(torch.tensor([[region]]), 3)[0, 0]
            source = (
                fine[image, cells]
                if region in refined[image]
                else coarse[image, region].expand(4, -1)
            )
            assert torch.equal(result[image, cells], source)


@pytest.mark.parametrize('order', TOKEN_ORDERS)
def test_full_refinement_is_the_sequence_of_vim(order):
    regions = torch.arange(4).unsqueeze(0)
    layout = FineLayout((2, 2), regions, regions[:, :0], MIDDLE, order)
    fine, cls, coarse = hand_tokens()
    sequence = layout.arrange(fine, cls, coarse).tokens[0, :, 0].tolist()
    assert sequence == [*range(8), -1, *range(8, 16)]


class NoTables(TorchDispatchMode):
    """Fails where numbers of Python become a tensor on the CPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten.lift_fresh.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('order', TOKEN_ORDERS)
def test_no_index_is_made_on_the_cpu(order):
    # A CUDA graph cannot record the copy, and without one it is a wait.
    refined, kept = torch.arange(4)[None].split([3, 1], 1)
    with NoTables():
        layout = FineLayout((2, 2), refined, kept, MIDDLE, token_order=order)
        layout.cells()
