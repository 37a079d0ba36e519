"""Images over HTTP, on loopback."""

import json
import threading
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path

import pytest
from builders import classification
from torch import nn

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

from mmscope.inference import EngineServer, Overloaded, TwoStageEngine
from mmscope.inference.http import Handler, PredictionServer, check_classes

from .streams import build, pipeline, write_images


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    (path,) = write_images(tmp_path_factory.mktemp('photos'), [(64, 64)])
    return Path(path)


@pytest.fixture
def model(request):
    options = getattr(request, 'param', ())
    return build('mmpretrain', classification.classifier(*options))


@pytest.fixture
def serve(model):
    """Start a server; gives what posts to it."""
    opened = []

    def start(connect=False, **options):
        engine = TwoStageEngine(
            model, 0.0, max_wait=0.02, pipeline=pipeline('mmpretrain')
        )
        server = EngineServer(engine, **options)
        colours = sorted(classification.COLOURS)
        http = PredictionServer(server, 'mmpretrain', colours)
        # Closing waits for the next look.
        threading.Thread(
            target=http.serve_forever, args=(0.01,), daemon=True
        ).start()
        opened.append((http, server))
        if connect:
            return HTTPConnection(*http.server_address, timeout=10)

        def post(body, headers=None):
            connection = HTTPConnection(*http.server_address, timeout=10)
            connection.request('POST', '/a.png', body, headers or {})
            response = connection.getresponse()
            answer = json.loads(response.read())
            connection.close()
            return response.status, answer

        return post

    yield start
    for http, server in opened:
        http.shutdown()
        http.server_close()
        server.close()


def test_an_image_is_answered_by_its_row(serve, photo):
    status, row = serve()(photo.read_bytes())
    assert status == 200
    assert row['name'] == 'a.png'
    assert row['class'] in classification.COLOURS
    assert row['exited'] is True


MULTI_LABEL = (
    'ImageClassifier',
    {
        'type': 'MultiLabelLinearClsHead',
        # Whatever is possible is present.
        'thr': 0.0,
    },
)


@pytest.mark.parametrize('model', [MULTI_LABEL], indirect=True)
def test_a_multi_label_classifier_answers_with_all_labels(serve, photo):
    status, row = serve()(photo.read_bytes())
    assert status == 200
    assert row['classes'] == sorted(classification.COLOURS)
    assert len(row['scores']) == 3


def test_what_cannot_be_answered_says_why(serve, photo):
    post = serve()
    status, answer = post(photo.read_bytes()[:60])
    assert (status, 'cannot be read' in answer['error']) == (422, True)
    for deadline in ('soon', '-1'):
        wrong = {'X-Deadline-Seconds': deadline}
        assert post(photo.read_bytes(), wrong)[0] == 400


@pytest.mark.parametrize('wrong', [KeyError, ValueError])
def test_a_row_that_cannot_be_made_is_an_error(
    serve, photo, monkeypatch, wrong
):
    def fail(*args):
        raise wrong('no such name')

    monkeypatch.setattr('mmscope.inference.http.row_of', fail)
    status, answer = serve()(photo.read_bytes())
    assert status == 500
    assert answer['error'].startswith(f'{wrong.__name__}: ')


@pytest.fixture
def engine_server(model):
    with EngineServer(TwoStageEngine(model, 0.0, max_wait=0.02)) as server:
        yield server


@pytest.mark.parametrize(
    ('scope', 'classes', 'says'),
    [
        ('torchvision', 'abc', "is the host.*'mmpretrain', got 'torchvision'"),
        ('mmseg', 'abc', "'mmpretrain', got 'mmseg'"),
        ('mmpretrain', 'ab', 'got 2 names.*tells apart 3'),
        ('mmpretrain', '', 'got 0 names'),
    ],
)
def test_names_of_another_model_are_refused(
    engine_server, scope, classes, says
):
    with pytest.raises(ValueError, match=says):
        PredictionServer(engine_server, scope, list(classes))


@pytest.mark.parametrize('classes', ['abc', None, 3])
def test_classes_are_a_list(engine_server, classes):
    with pytest.raises(ValueError, match='a list of names'):
        PredictionServer(engine_server, 'mmpretrain', classes)


@pytest.mark.parametrize(
    ('parts', 'number'),
    [
        ({'decode_head': [4, 5]}, 5),
        ({'bbox_head': 6}, 6),
        ({'roi_head': {'bbox_head': [7, 7]}, 'bbox_head': 1}, 7),
        ({'dataset_meta': {'classes': ('a', 'b')}}, 2),
        ({'head': None}, None),
    ],
)
def test_models_say_how_many_classes_they_have(parts, number):
    host = host_of(parts)
    check_classes(['name'] * (number or 9), host)
    if number:
        with pytest.raises(ValueError, match=f'tells apart {number}'):
            check_classes(['name'] * 9, host)


def host_of(parts):
    """A module with heads of so many classes."""
    host = nn.Module()
    for name, value in parts.items():
        if name == 'roi_head':
            value = host_of(value)
        elif name != 'dataset_meta' and value is not None:
            numbers = value if isinstance(value, list) else [value]
            heads = nn.ModuleList(nn.Module() for _ in numbers)
            for head, classes in zip(heads, numbers, strict=True):
                head.num_classes = classes
            value = heads if isinstance(value, list) else heads[0]
        setattr(host, name, value)
    return host


@pytest.mark.parametrize(
    ('length', 'status'),
    [
        ('-1', 411),
        ('some', 411),
        ('\xb2', 411),
        (str(10**12), 413),
        ('9' * 5000, 413),
    ],
)
def test_a_body_of_impossible_length_is_refused(serve, length, status):
    wrong, answer = serve()(b'', {'Content-Length': length})
    assert wrong == status
    assert length[:20] in answer['error']


def test_a_client_that_sends_nothing_is_left(serve, photo, monkeypatch):
    assert Handler.timeout == 30
    monkeypatch.setattr(Handler, 'timeout', 0.2)
    connection = serve(connect=True)
    connection.putrequest('POST', '/a.png')
    connection.putheader('Content-Length', '1000')
    connection.endheaders()
    with pytest.raises(RemoteDisconnected):
        connection.getresponse()


def test_a_full_server_refuses_before_it_decodes(serve, photo, monkeypatch):
    decoded = []
    decode = 'mmscope.inference.http.decode_bgr'
    monkeypatch.setattr(decode, lambda *args: decoded.append(args))
    monkeypatch.setattr(EngineServer, '_check_room', overloaded)
    status, answer = serve()(photo.read_bytes())
    assert (status, decoded) == (503, [])


def overloaded(server):
    raise Overloaded('come back later')


def test_overload_and_deadlines_have_their_status(serve, photo, monkeypatch):
    from mmscope.inference import hosts

    event, run = threading.Event(), hosts.RefilledHost.coarse
    monkeypatch.setattr(
        hosts.RefilledHost,
        'coarse',
        lambda host, batch: event.wait(10) and run(host, batch),
    )
    post, body = serve(max_pending=2), photo.read_bytes()
    found = []
    late = {'X-Deadline-Seconds': '1.0'}

    def ask(headers):
        found.append(post(body, headers)[0])

    threads = [threading.Thread(target=ask, args=(None,))]
    threads[0].start()
    # The first is at the model before the second comes.
    threading.Event().wait(0.5)
    threads.append(threading.Thread(target=ask, args=(late,)))
    threads[1].start()
    threading.Event().wait(1.5)
    assert post(body)[0] == 503
    event.set()
    for thread in threads:
        thread.join(10)
    assert sorted(found) == [200, 504]
