"""Requests that come one by one are answered, refused or dropped."""

import multiprocessing
import threading
import time

import pytest
import torch
from builders import classification

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

from mmscope.inference import (
    DeadlinePassed,
    EngineServer,
    ImageFailure,
    Overloaded,
    TwoStageEngine,
)

from .streams import (
    assert_same,
    build,
    items_of,
    median_threshold,
    pipeline,
    plain_loop,
    write_images,
)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('photos'), [(64, 64)] * 16)


@pytest.fixture(scope='module')
def classifier(photos):
    model = build('mmpretrain', classification.classifier())
    return model, median_threshold(model, 'mmpretrain', photos)


def serving(classifier, max_pending=None, **options):
    options = {'coarse_batch': 4, 'fine_batch': 4, 'max_wait': 0.02, **options}
    steps = pipeline('mmpretrain')
    engine = TwoStageEngine(*classifier, pipeline=steps, **options)
    return EngineServer(engine, max_pending)


@pytest.fixture
def blocked(monkeypatch):
    """Lets the coarse stage wait until the event is set; says it began."""
    from mmscope.inference import hosts

    event, run = threading.Event(), hosts.RefilledHost.coarse
    event.reached = threading.Event()

    def wait(host, batch):
        event.reached.set()
        assert event.wait(60)
        run(host, batch)

    monkeypatch.setattr(hosts.RefilledHost, 'coarse', wait)
    yield event
    event.set()


def test_every_request_gets_the_result_of_its_image(classifier, photos):
    expected = plain_loop(classifier[0], 'mmpretrain', photos, classifier[1])
    with serving(classifier) as server:
        futures = [server.submit(path) for path in photos]
        for future, one in zip(futures, expected, strict=True):
            assert_same(future.result(timeout=10), one)


def test_a_lone_request_does_not_wait_for_others(classifier, photos):
    with serving(classifier, coarse_batch=64, fine_batch=64) as server:
        server.submit(photos[0]).result(timeout=10)
        # For ever, if it did.
        server.submit(photos[0]).result(timeout=60)


def test_an_exit_does_not_wait_for_those_who_go_on(classifier, photos):
    """The fine stage of others is not even full."""
    expected = plain_loop(classifier[0], 'mmpretrain', photos, classifier[1])
    order = sorted(range(len(photos)), key=lambda i: expected[i].exited)
    # Half a batch goes on; a full one exits.
    images = [photos[i] for i in [*order[:4], *order[-4:]]]
    done = []
    options = {'coarse_batch': 8, 'fine_batch': 4, 'max_wait': 30.0}
    with serving(classifier, **options) as server:
        for place, image in enumerate(images):
            server.submit(image).add_done_callback(
                lambda _, place=place: done.append(place)
            )
    assert sorted(done[:4]) == [4, 5, 6, 7]


def test_overload_is_refused_and_nothing_is_lost(classifier, photos, blocked):
    with serving(classifier, max_pending=5) as server:
        futures = [server.submit(path) for path in photos[:5]]
        with pytest.raises(Overloaded, match='5 requests wait already'):
            server.submit(photos[5])
        blocked.set()
        assert [f.result(10).img_path for f in futures] == photos[:5]
        assert server.submit(photos[5]).result(10).img_path == photos[5]


def test_a_deadline_that_passed_costs_no_computation(
    classifier, photos, blocked
):
    with serving(classifier) as server:
        first = server.submit(photos[0])
        assert blocked.reached.wait(60)
        late = server.submit(photos[1], deadline=0.01)
        early = server.submit(photos[2], deadline=60)
        time.sleep(0.05)
        blocked.set()
        assert first.result(10).img_path == photos[0]
        assert early.result(10).img_path == photos[2]
        with pytest.raises(DeadlinePassed):
            late.result(10)


def test_a_cancelled_request_is_dropped(classifier, photos, blocked):
    with serving(classifier, max_pending=2) as server:
        first = server.submit(photos[0])
        assert blocked.reached.wait(60)
        future = server.submit(photos[1])
        assert future.cancel()
        blocked.set()
        first.result(60)
        deadline = time.monotonic() + 60
        while server._pending:
            assert time.monotonic() < deadline, 'its place is not free again'
            time.sleep(0.01)
        both = [server.submit(path) for path in photos[:2]]
        assert all(f.result(10) for f in both)


def test_a_bad_request_hurts_nobody_else(classifier, photos):
    with serving(classifier) as server:
        good = [server.submit(path) for path in photos[:3]]
        passed_over = server.submit(torch.zeros(5, 64, 64))
        (item,) = items_of('mmpretrain', photos[:1])
        wrong = server.submit({**item, 'inputs': torch.zeros(5, 64, 64)})
        absent = server.submit('absent.png')
        with pytest.raises(ValueError, match='an image is a path'):
            server.submit(7)
        assert [f.result(10).img_path for f in good] == photos[:3]
        with pytest.raises(RuntimeError, match='must match'):
            wrong.result(10)
        assert isinstance(passed_over.result(10), ImageFailure)
        assert isinstance(absent.result(10), ImageFailure)
        assert server.submit(photos[3]).result(10).img_path == photos[3]


@pytest.mark.parametrize('stage', ['coarse', 'fine', 'predict'])
def test_a_request_that_fails_in_a_batch_fails_alone(
    classifier, photos, monkeypatch, stage
):
    from mmscope.inference import hosts

    run, sizes = getattr(hosts.RefilledHost, stage), []

    def fail(host, batch):
        sizes.append(len(batch))
        if any(one.ticket.number == 1 for one in batch):
            raise ArithmeticError(f'{len(batch)} of them')
        run(host, batch)

    monkeypatch.setattr(hosts.RefilledHost, stage, fail)
    options = {'coarse_batch': 3, 'fine_batch': 3, 'max_wait': 30.0}
    never = (classifier[0], 2.0)
    with serving(never, **options) as server:
        futures = [server.submit(path) for path in photos[:3]]
        assert futures[0].result(60).img_path == photos[0]
        assert futures[2].result(60).img_path == photos[2]
        with pytest.raises(ArithmeticError, match='1 of them'):
            futures[1].result(60)
    assert sizes == [3, 1, 1, 1]


def test_closing_answers_what_was_asked(classifier, photos):
    server = serving(classifier, max_wait=30.0)
    futures = [server.submit(path) for path in photos[:3]]
    server.close()
    assert all(f.done() for f in futures)
    with pytest.raises(RuntimeError, match='closed'):
        server.submit(photos[0])


def test_a_callback_may_close_the_server(classifier, photos, blocked):
    server = serving(classifier)
    closed = []

    def close(_):
        server.close()
        closed.append(True)

    futures = [server.submit(path) for path in photos[:6]]
    futures[0].add_done_callback(close)
    futures[1].add_done_callback(close)
    blocked.set()
    assert [f.result(10).img_path for f in futures] == photos[:6]
    with pytest.raises(RuntimeError, match='stopped: it was closed'):
        server.submit(photos[0])
    server.close()
    assert closed == [True, True]
    assert not server._thread.is_alive()


def test_a_breakdown_is_told_to_everyone(classifier, photos, blocked):
    server = serving(classifier, num_workers=1)
    first = server.submit(photos[0])
    assert blocked.reached.wait(60)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    worker.join()
    second = server.submit(photos[1])
    blocked.set()
    assert first.result(10).img_path == photos[0]
    with pytest.raises(RuntimeError, match='was killed'):
        second.result(10)
    with pytest.raises(RuntimeError, match='stopped.*was killed'):
        server.submit(photos[1])
    server.close()


def test_a_server_needs_a_bound_on_waiting(classifier):
    with pytest.raises(ValueError, match='max_wait'):
        serving(classifier, max_wait=None)
    with pytest.raises(TypeError, match='needs a TwoStageEngine'):
        EngineServer(classifier[0])
    for number in (0, -5, 1.5):
        with pytest.raises(ValueError, match='max_pending'):
            serving(classifier, max_pending=number)
    with serving(classifier) as server:
        with pytest.raises(ValueError, match='deadline'):
            server.submit('a.png', deadline=0)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_forked_process_is_told_that_the_server_is_not_its_own(
    classifier, photos, workers
):
    """As under gunicorn --preload: nothing there would ever answer."""
    ours, theirs = multiprocessing.Pipe()

    def ask():
        for call in (lambda: server.submit(photos[0], 1), server.check_room):
            try:
                theirs.send(call())
            except RuntimeError as error:
                theirs.send(str(error))
        theirs.send(server.close())

    child = multiprocessing.get_context('fork').Process(target=ask)
    with serving(classifier, num_workers=workers) as server:
        server.submit(photos[0]).result(10)
        # A lock that another thread has for a moment.
        with server._changing:
            child.start()
        try:
            for _ in range(2):
                assert ours.poll(10), 'it hangs'
                assert 'make one after the fork' in ours.recv()
            assert ours.poll(10), 'closing hangs'
            assert ours.recv() is None
            child.join(10)
            assert child.exitcode == 0
        finally:
            child.kill()
        # Nor has it closed this one.
        assert server.submit(photos[1]).result(10).img_path == photos[1]
