"""Requests over loopback at rates around what a server can do."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Sequence
from http.client import HTTPConnection
from threading import Lock, Thread
from typing import Any

import numpy as np
from PIL import Image

from mmscope.inference.engine import TwoStageEngine
from mmscope.inference.http import DEADLINE, PredictionServer
from mmscope.inference.serving import EngineServer

FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5)
OUTCOMES = {200: 'answered', 503: 'refused', 504: 'late'}


def make_pictures(number: int, side: int) -> list[bytes]:
    """Make JPEG files of noise of different contrasts."""
    rng = np.random.default_rng(0)
    found = []
    for scale in rng.permutation(np.linspace(10, 90, number)):
        pixels = 128 + rng.normal(0, scale, (side, side, 3))
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
            file, 'JPEG'
        )
        found.append(file.getvalue())
    return found


class Client:
    """Posts pictures at given times, and notes what became of them.

    Args:
        address (tuple[str, int]): Of the server.
        deadline (float): Seconds that a request may take.
    """

    def __init__(self, address: tuple[str, int], deadline: float) -> None:
        self._address, self._deadline = address, deadline
        self._lock = Lock()
        self.outcomes: Counter[str] = Counter()
        self.seconds: list[float] = []

    def run(self, pictures: Sequence[bytes], times: Sequence[float]) -> None:
        """Post picture after picture, whether others are answered or not.

        Args:
            pictures (Sequence[bytes]): Taken in turns.
            times (Sequence[float]): Seconds after the start.
        """
        start = time.monotonic()
        threads = []
        for number, moment in enumerate(times):
            time.sleep(max(start + moment - time.monotonic(), 0))
            picture = pictures[number % len(pictures)]
            threads.append(Thread(target=self.post, args=(picture,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def post(self, picture: bytes) -> None:
        """Post one picture and wait for what becomes of it."""
        start = time.monotonic()
        connection = HTTPConnection(*self._address, timeout=60)
        try:
            headers = {DEADLINE: str(self._deadline)}
            connection.request('POST', '/load', picture, headers)
            response = connection.getresponse()
            response.read()
            outcome = OUTCOMES.get(response.status, f'{response.status}')
        # No answer at all.
        except OSError:
            outcome = 'lost'
        finally:
            connection.close()
        with self._lock:
            self.outcomes[outcome] += 1
            if outcome == 'answered':
                self.seconds.append(time.monotonic() - start)


def measure_load(
    engine: TwoStageEngine,
    scope: str,
    classes: Sequence[str],
    side: int,
    seconds: float,
    max_pending: int,
    deadline: float,
    factors: Sequence[float] = FACTORS,
) -> dict[str, Any]:
    """Offer a server more and less than it can do.

    Args:
        engine (TwoStageEngine): With ``max_wait``; reads pictures.
        scope (str): Host of its model.
        classes (Sequence[str]): Names by label.
        side (int): Pixels of the pictures.
        seconds (float): Length of each rate.
        max_pending (int): See :class:`EngineServer`.
        deadline (float): Seconds that a request may take.
        factors (Sequence[float]): Arrival rates, in parts of the capacity.

    Returns:
        dict: ``capacity`` in requests/s, of a first run at which there is
        always a request waiting, and ``rates``: for each factor the number
        of requests by outcome and the latencies of those answered.
    """
    pictures = make_pictures(64, side)
    rng = np.random.default_rng(0)
    with EngineServer(engine, max_pending) as server:
        http = PredictionServer(server, scope, classes)
        Thread(target=http.serve_forever, daemon=True).start()
        try:
            capacity = _capacity(http, pictures, seconds, max_pending)
            rates = []
            for factor in factors:
                rate = factor * capacity
                gaps = rng.exponential(1 / rate, max(int(rate * seconds), 1))
                client = Client(http.server_address, deadline)
                client.run(pictures, gaps.cumsum())
                rates.append(_summary(factor, rate, client))
        finally:
            http.shutdown()
            http.server_close()
    return {'capacity': round(capacity, 2), 'rates': rates}


def _capacity(
    http: PredictionServer,
    pictures: Sequence[bytes],
    seconds: float,
    at_once: int,
) -> float:
    """Count what as many clients get answered as the server holds."""
    client = Client(http.server_address, 60.0)
    end = time.monotonic() + seconds

    def ask(first: int) -> None:
        while time.monotonic() < end:
            client.post(pictures[first % len(pictures)])

    threads = [Thread(target=ask, args=(i,)) for i in range(at_once)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return client.outcomes['answered'] / (time.monotonic() - start)


def _summary(factor: float, rate: float, client: Client) -> dict[str, Any]:
    sent = sum(client.outcomes.values())
    row = {'factor': factor, 'rate': round(rate, 2), 'sent': sent}
    names = ('answered', 'refused', 'late', 'lost')
    row.update({name: client.outcomes.pop(name, 0) for name in names})
    row['failed'] = sum(client.outcomes.values())
    if client.seconds:
        p50, p99 = np.percentile(client.seconds, (50, 99))
        row['p50_ms'], row['p99_ms'] = round(1e3 * p50, 1), round(1e3 * p99, 1)
    return row
