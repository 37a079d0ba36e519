"""A small HTTP server over the engine, without further packages.

A client posts the bytes of an image file and gets a row as JSON. Whoever has
a web framework needs `EngineServer.submit` alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from torch import nn

from mmscope.datasets.decoding import BrokenImageError, decode_bgr
from mmscope.inference.reading import ImageFailure
from mmscope.inference.rows import row_kind, row_of
from mmscope.inference.serving import DeadlinePassed, EngineServer, Overloaded
from mmscope.models.tasks import TASKS, task_of

DEADLINE = 'X-Deadline-Seconds'
# Bytes of a body that is read into memory.
LARGEST_BODY = 2**26
# A length of more is too long whatever it says; int() refuses 4,300 digits.
MOST_DIGITS = 20


class PredictionServer(ThreadingHTTPServer):
    """Answers ``POST`` with the bytes of an image by a row as JSON.

    Answers are 200 with the row of ``mmscope infer`` (bytes in base64), 400,
    411 or 413 for a bad header, no or too long a body (64 MiB are read), 422
    for a damaged image, 500 where it cannot be predicted or told as a row,
    503 where there are too many requests, 504 where the deadline passed
    (header ``X-Deadline-Seconds``). A client that sends nothing for 30
    seconds is left.

    Args:
        server (EngineServer): Stays the caller's, who closes it.
        scope (str): Host of the model.
        classes (Sequence[str]): Names by label.
        address (tuple[str, int]): Host and port; port 0 takes a free one,
            see ``server_address``. Defaults to loopback.

    Raises:
        ValueError: If the host is unknown or another one's, or the model
            tells apart another number of classes.
    """

    daemon_threads = True
    # Connections that wait for a thread, beside those that are answered.
    request_queue_size = 128

    def __init__(
        self,
        server: EngineServer,
        scope: str,
        classes: Sequence[str],
        address: tuple[str, int] = ('127.0.0.1', 0),
    ) -> None:
        # Before the port is taken.
        check_host(scope, server.model)
        check_classes(classes, server.model)
        super().__init__(address, Handler)
        self.engine_server = server
        self.scope = row_kind(scope, server.model)
        self.classes = classes


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = 'HTTP/1.1'
    # Seconds that a client may keep a thread waiting for its bytes.
    timeout = 30
    server: PredictionServer

    def do_POST(self) -> None:
        """Predict the image in the body."""
        length = self.headers.get('Content-Length', '')
        if not (length.isascii() and length.isdigit()):
            status, problem = 411, f'Content-Length is {length!r}, no number'
        elif len(length) > MOST_DIGITS or int(length) > LARGEST_BODY:
            status = 413
            problem = (
                f'{length[:MOST_DIGITS]} bytes, at most {LARGEST_BODY} are '
                'read'
            )
        else:
            return self._send(*self._answer(self.rfile.read(int(length))))
        # What follows is no request.
        self.close_connection = True
        self._send(status, {'error': problem})

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer, default=_base64).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, body: bytes) -> tuple[int, dict[str, Any]]:
        name = self.path.strip('/') or 'image'
        try:
            future = self._submit(body, name)
        except Overloaded as error:
            return 503, {'error': str(error)}
        except BrokenImageError as error:
            return 422, {'error': str(error)}
        except ValueError as error:
            return 400, {'error': str(error)}
        except Exception as error:
            return 500, _reason(error)
        scope, classes = self.server.scope, self.server.classes
        try:
            result = future.result()
            status = 422 if isinstance(result, ImageFailure) else 200
            return status, row_of(name, result, scope, classes)
        except DeadlinePassed as error:
            return 504, {'error': str(error)}
        # Nothing that the client sent.
        except Exception as error:
            return 500, _reason(error)

    def _submit(self, body: bytes, name: str) -> Future:
        wait = self.headers.get(DEADLINE)
        deadline = None if wait is None else float(wait)
        self.server.engine_server.check_room()
        picture = decode_bgr(body, name)
        return self.server.engine_server.submit(picture, deadline)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: who serves has a log of its own."""


def check_host(scope: str, model: nn.Module) -> None:
    """Refuse a host that is unknown, or not the model's.

    Raises:
        ValueError: If it is.
    """
    task = task_of(model)
    hosts = [one.host for one in TASKS] if task is None else [task.host]
    if scope not in hosts:
        raise ValueError(
            f'scope is the host of the {type(model).__name__}, '
            f'{" or ".join(map(repr, hosts))}, got {scope!r}'
        )


def check_classes(classes: Sequence[str], model: nn.Module) -> None:
    """Refuse names that are no list, or not one a class of the model.

    Args:
        classes (Sequence[str]): Names by label.
        model (nn.Module): Host model; where it does not say how many classes
            it tells apart, any number will do.

    Raises:
        ValueError: If they are.
    """
    if not isinstance(classes, Sequence) or isinstance(classes, str):
        raise ValueError(
            'classes are a list of names, one a label, got '
            f'{type(classes).__name__}'
        )
    number = _number_of_classes(model)
    if number not in (None, len(classes)):
        raise ValueError(
            f'got {len(classes)} names of classes, but the '
            f'{type(model).__name__} tells apart {number}: name each, in the '
            'order of its labels'
        )


def _number_of_classes(model: nn.Module) -> int | None:
    """What the head says, else the data set of the checkpoint."""
    owner = getattr(model, 'roi_head', model)
    for name in ('head', 'decode_head', 'bbox_head'):
        head = getattr(owner, name, None)
        # Cascades have several.
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        if (number := getattr(head, 'num_classes', None)) is not None:
            return number
    meta = getattr(model, 'dataset_meta', None) or {}
    return len(meta['classes']) if meta.get('classes') else None


def _reason(error: Exception) -> dict[str, Any]:
    return {'error': f'{type(error).__name__}: {error}'}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
