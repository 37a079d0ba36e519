"""Generated text goes between its markers and leaves the rest alone."""

import pytest

from mmscope.analysis.markers import replace_between, update_document

TEXT = 'before\n<!-- tool: begin -->\nold\n<!-- tool: end -->\nafter\n'


def test_only_what_stands_between_the_markers_changes(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(TEXT)
    update_document(page, 'tool', 'new')
    assert page.read_text() == (
        'before\n<!-- tool: begin -->\n\nnew\n\n<!-- tool: end -->\nafter\n'
    )
    update_document(page, 'tool', 'new', check=True)


def test_a_check_fails_and_writes_nothing(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(TEXT)
    with pytest.raises(ValueError, match='out of date'):
        update_document(page, 'tool', 'new', check=True)
    assert page.read_text() == TEXT


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('no markers', 'needs one line'),
        (TEXT + TEXT, 'needs one line'),
        ('<!-- tool: end -->\n<!-- tool: begin -->', 'must stand before'),
    ],
)
def test_markers_are_needed_once_and_in_order(text, message):
    with pytest.raises(ValueError, match=message):
        replace_between(text, 'tool', 'new', 'page.md')


def test_a_missing_document_is_named(tmp_path):
    with pytest.raises(ValueError, match='page.md does not exist'):
        update_document(tmp_path / 'page.md', 'tool', 'new')
