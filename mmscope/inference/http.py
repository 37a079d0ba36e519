"""A small HTTP server over the engine, without further packages.

A client posts the bytes of an image file and gets a row as JSON. Whoever has
a web framework needs `EngineServer.submit` alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mmscope.datasets.decoding import BrokenImageError, decode_bgr
from mmscope.inference.reading import ImageFailure
from mmscope.inference.rows import row_kind, row_of
from mmscope.inference.serving import DeadlinePassed, EngineServer, Overloaded

DEADLINE = 'X-Deadline-Seconds'
# Bytes of a body that is read into memory.
LARGEST_BODY = 2**26
# A length of more is too long whatever it says; int() refuses 4,300 digits.
MOST_DIGITS = 20


class PredictionServer(ThreadingHTTPServer):
    """Answers ``POST`` with the bytes of an image by a row as JSON.

    Answers are 200 with the row of ``mmscope infer`` (bytes in base64), 400,
    411 or 413 for a bad header, no or too long a body (64 MiB are read), 422
    for a damaged image, 503 where there are too many requests, 504 where the
    deadline passed (header ``X-Deadline-Seconds``). A client that sends
    nothing for 30 seconds is left.

    Args:
        server (EngineServer): Stays the caller's, who closes it.
        scope (str): Host of the model.
        classes (Sequence[str]): Names by label.
        address (tuple[str, int]): Host and port; port 0 takes a free one,
            see ``server_address``. Defaults to loopback.
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
            wait = self.headers.get(DEADLINE)
            deadline = None if wait is None else float(wait)
            self.server.engine_server.check_room()
            picture = decode_bgr(body, name)
            future = self.server.engine_server.submit(picture, deadline)
            result = future.result()
        except Overloaded as error:
            return 503, {'error': str(error)}
        except DeadlinePassed as error:
            return 504, {'error': str(error)}
        except BrokenImageError as error:
            return 422, {'error': str(error)}
        except ValueError as error:
            return 400, {'error': str(error)}
        except Exception as error:
            return 500, {'error': f'{type(error).__name__}: {error}'}
        scope, classes = self.server.scope, self.server.classes
        failed = isinstance(result, ImageFailure)
        return 422 if failed else 200, row_of(name, result, scope, classes)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: who serves has a log of its own."""


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
