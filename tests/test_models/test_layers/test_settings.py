"""Settings for a while."""

from contextlib import suppress
from types import SimpleNamespace

from mmscope.models.layers import holding


def test_what_was_not_there_is_gone_afterwards():
    owner = SimpleNamespace(kept=1)
    with suppress(KeyError), holding(owner, kept=2, added=3):
        assert vars(owner) == {'kept': 2, 'added': 3}
        raise KeyError
    assert vars(owner) == {'kept': 1}
