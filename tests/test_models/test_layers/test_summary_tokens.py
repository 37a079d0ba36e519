import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmscope.models.layers import PositionTable, SummaryTokens, TokenSequence
from mmscope.models.layers.position import resize_pos_embed, square_grid
from mmscope.models.layers.summary_tokens import places_between

KINDS = st.one_of(
    st.builds(
        SummaryTokens,
        st.sampled_from(['middle', 'first', 'last', 'woven']),
        st.integers(1, 5),
    ),
    st.just(SummaryTokens('none', 0)),
)
quickly = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize(
    ('position', 'count', 'patches', 'places'),
    [
        ('middle', 1, 196, (98,)),
        ('middle', 1, 7, (3,)),
        ('first', 1, 196, (0,)),
        ('last', 2, 4, (4, 5)),
        # Twelve registers in 196 patches, one after every sixteenth token.
        ('woven', 12, 196, tuple(range(15, 192, 16))),
        ('none', 0, 9, ()),
    ],
)
def test_summary_tokens_stand_where_their_family_puts_them(
    position, count, patches, places
):
    assert SummaryTokens(position, count).places(patches) == places


@quickly
@given(KINDS, st.integers(0, 40), st.integers(0, 3))
def test_split_undoes_insert_whatever_the_sizes(kind, patches, batch):
    x = torch.randn(batch, patches, 2)
    summary = torch.randn(batch, kind.count, 2)
    tokens = kind.insert(x, summary)
    assert tokens.shape == (batch, patches + kind.count, 2)
    for found, wanted in zip(kind.split(tokens), (x, summary), strict=True):
        assert torch.equal(found, wanted)


@quickly
@given(KINDS, st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_places_of_many_images_are_those_of_each(kind, counts):
    found = kind.places_of(torch.tensor(counts))
    assert found.tolist() == [list(kind.places(k)) for k in counts]


@quickly
@given(KINDS, st.integers(0, 40))
def test_patches_stand_where_no_summary_token_does(kind, patches):
    places, taken = kind.patch_places(patches).tolist(), kind.places(patches)
    assert sorted([*places, *taken]) == list(range(patches + kind.count))
    between = places_between(torch.tensor([taken], dtype=torch.long), patches)
    assert between[0].tolist() == places


@quickly
@given(KINDS, st.integers(1, 5), st.integers(1, 5))
def test_a_plain_sequence_shows_each_patch_in_its_cell(kind, rows, columns):
    patches = torch.arange(rows * columns).view(1, -1, 1).float()
    summary = -torch.ones(1, kind.count, 1)
    sequence = TokenSequence.plain(patches, summary, kind, (rows, columns))
    assert torch.equal(sequence.to_raster(sequence.tokens), patches)
    assert torch.equal(sequence.patches(sequence.tokens), patches)
    assert torch.equal(sequence.summary(sequence.tokens), summary)
    assert sequence.kept[0].tolist() == list(range(rows * columns))


@pytest.mark.parametrize(
    ('position', 'count', 'message'),
    [
        ('centre', 1, "must be one of .* got 'centre'"),
        ('none', 1, "1 summary tokens cannot stand at 'none'"),
        ('first', 0, "0 summary tokens cannot stand at 'first'"),
        ('woven', -1, '-1 summary tokens'),
    ],
)
def test_impossible_summary_tokens_are_refused(position, count, message):
    with pytest.raises(ValueError, match=message):
        SummaryTokens(position, count)


@quickly
@given(KINDS, st.integers(1, 4), st.integers(1, 4))
def test_resizing_leaves_summary_entries_and_a_constant_alone(kind, h, w):
    size = PositionTable((3, 2), kind).num_entries
    entries = torch.randn(1, kind.count, 2)
    table = kind.insert(torch.full((1, 6, 2), 0.5), entries)
    resized = resize_pos_embed(table, (3, 2), (h, w), kind)
    assert resized.shape == (1, h * w + kind.count, 2)
    assert size == 6 + kind.count
    patches, summary = kind.split(resized)
    torch.testing.assert_close(patches, torch.full((1, h * w, 2), 0.5))
    assert torch.equal(summary, entries)


def test_a_table_of_another_grid_is_refused():
    with pytest.raises(ValueError, match='6 entries; a grid of 3 x 2 and 1'):
        resize_pos_embed(torch.zeros(1, 6, 2), (3, 2), (4, 4))


@pytest.mark.parametrize(
    ('entries', 'grid'), [(197, (14, 14)), (10, (3, 3)), (9, None), (1, None)]
)
def test_a_grid_is_guessed_where_it_is_square(entries, grid):
    assert square_grid(entries) == grid
