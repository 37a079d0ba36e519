"""How far a long run is."""

from types import SimpleNamespace

import pytest

from mmscope.inference import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    found = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, 'monotonic', lambda: found.now)
    return found


class Loader:
    """Ten images in batches of four."""

    dataset = range(10)

    def __init__(self, clock):
        self.clock = clock

    def __iter__(self):
        for size in (4, 4, 2):
            self.clock.now += 20
            yield {'inputs': [None] * size}


def test_batches_pass_and_are_told_every_half_minute(clock, capsys):
    batches = progress.watched(Loader(clock), 'scoring')
    assert [len(batch['inputs']) for batch in batches] == [4, 4, 2]
    assert capsys.readouterr().err.splitlines() == [
        'scoring: 8 of 10 images, 0.2 images/s, 0:00:10 to go'
    ]


def test_rows_of_an_earlier_run_count_but_not_for_the_speed(clock):
    run = progress.Progress(10)
    run.resume([True, False], [1.0, 3.0], [None, None])
    run.resume([None], [None], ['no image'])
    clock.now = 2.0
    run.add_row({'exited': True, 'gmacs': 2.0})
    assert run.sentence() == (
        '4 of 10 images, 0.5 images/s, 66.7 % exited, 2 GMACs an image, '
        '1 could not be read, 0:00:12 to go'
    )
