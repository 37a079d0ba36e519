"""A model's settings belong to one thread at a time."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from builders import classification

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

from mmscope.inference import EngineServer, TwoStageEngine
from mmscope.models import at_threshold

from .streams import build

IMAGES = list(torch.randn(6, 3, 64, 64))
REFUSED = r'copy\.deepcopy\(model\)'


@pytest.fixture(scope='module')
def model():
    return build('mmpretrain', classification.classifier())


@pytest.fixture
def elsewhere():
    """Call in another thread; gives the result, or raises."""
    with ThreadPoolExecutor(1, 'other') as pool:
        yield lambda call, *args: pool.submit(call, *args).result(30)


def exits(engine):
    return [one.exited for one in engine(IMAGES)]


def test_an_engine_of_another_thread_is_refused(model, elsewhere):
    engine, other = (TwoStageEngine(model, eta, 2, 2) for eta in (0.0, 2.0))
    stream = engine(IMAGES)
    found = [next(stream).exited]
    with pytest.raises(RuntimeError, match=REFUSED) as refusal:
        elsewhere(exits, other)
    assert "thread 'MainThread' uses" in str(refusal.value)
    mine = TwoStageEngine(copy.deepcopy(model), 2.0, 2, 2)
    assert elsewhere(exits, mine) == [False] * 6
    found += [one.exited for one in stream]
    assert found == [True] * 6
    # Nobody is inside any more.
    assert elsewhere(exits, other) == [False] * 6
    assert model.backbone.exit_threshold is None


def test_engines_of_one_thread_share_a_model(model):
    engines = [TwoStageEngine(model, eta, 2, 2) for eta in (0.0, 2.0, None)]
    streams = [engine(IMAGES) for engine in engines]
    for together in zip(*streams, strict=True):
        assert [one.exited for one in together] == [True, False, False]
    assert model.backbone.exit_threshold is None


def test_many_threads_change_no_threshold(model):
    start = threading.Barrier(3)

    def run(eta):
        engine = TwoStageEngine(model, eta, 2, 2)
        start.wait(10)
        try:
            return exits(engine)
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(run, (0.0, 2.0, 0.0)))
    for result, right in zip(found, (True, False, True), strict=True):
        assert result == [right] * 6 or 'copy.deepcopy' in result
    assert model.backbone.exit_threshold is None


def test_a_threshold_of_another_thread_is_refused(model, elsewhere):
    def change():
        with at_threshold(model, 0.5):
            return model.backbone.exit_threshold

    with at_threshold(model, 0.1):
        with (
            at_threshold(model, 0.2),
            pytest.raises(RuntimeError, match=REFUSED),
        ):
            elsewhere(change)
        with pytest.raises(RuntimeError, match=REFUSED):
            elsewhere(change)
        assert model.backbone.exit_threshold == 0.1
    assert elsewhere(change) == 0.5
    assert model.backbone.exit_threshold is None


def test_a_model_is_the_servers_until_it_is_closed(model):
    with EngineServer(TwoStageEngine(model, 0.0, 2, 2, max_wait=0.01)) as one:
        assert one.submit(IMAGES[0]).result(10).exited
        with (
            pytest.raises(RuntimeError, match="thread 'mmscope-engine' uses"),
            at_threshold(model, 2.0),
        ):
            pass
    with at_threshold(model, 2.0):
        pass


def test_a_stream_may_move_to_another_thread(model, elsewhere):
    """Web frameworks take each result of a generator in some thread."""
    stream = TwoStageEngine(model, 0.0, 2, 2)(IMAGES)
    found = [next(stream), *elsewhere(list, stream)]
    assert [one.exited for one in found] == [True] * 6
    stream = TwoStageEngine(model, 0.0, 2, 2)(IMAGES)
    next(stream)
    with at_threshold(model, 0.5):
        with pytest.raises(RuntimeError, match=REFUSED):
            elsewhere(list, stream)
    with at_threshold(model, 0.5):
        pass
