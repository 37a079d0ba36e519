"""Requests over loopback at rates around what a server can do."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from threading import Lock, Thread

import numpy as np
import pandas as pd
from PIL import Image

from mmscope.evaluation.tables import Column, format_table
from mmscope.inference.engine import TwoStageEngine
from mmscope.inference.http import DEADLINE, PredictionServer
from mmscope.inference.serving import EngineServer

FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5)
OUTCOMES = {200: 'answered', 503: 'refused', 504: 'late'}
COLUMNS = (
    Column('factor', 'rate / capacity', '.2f'),
    Column('rate', 'requests/s', '.1f'),
    *(Column(x, x, '.0f') for x in ('sent', *OUTCOMES.values())),
    Column('failed', 'failed', '.0f'),
    Column('lost', 'lost', '.0f'),
    Column('p50_ms', 'p50, ms', '.0f'),
    Column('p99_ms', 'p99, ms', '.0f'),
)


@dataclass
class Rate:
    """What became of the requests at one rate, a factor of the capacity.

    Of those ``sent`` some were ``answered`` (latencies in milliseconds),
    ``refused`` at once, ``late``, ``lost`` without an answer, or ``failed``.
    """

    factor: float
    rate: float
    sent: int
    answered: int
    refused: int
    late: int
    lost: int
    failed: int
    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass
class Load:
    """A server that can do ``capacity`` requests/s, at rates around that."""

    capacity: float
    rates: list[Rate]


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
    """Posts pictures to a server, and notes what became of them."""

    def __init__(self, address: tuple[str, int], deadline: float) -> None:
        self._address, self._deadline = address, deadline
        self._lock = Lock()
        self.outcomes: Counter[str] = Counter()
        self.seconds: list[float] = []

    def run(self, pictures: Sequence[bytes], times: Sequence[float]) -> None:
        """Post pictures in turns at given seconds, answered or not."""
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
) -> Load:
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
    return Load(round(capacity, 2), rates)


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


def _summary(factor: float, rate: float, client: Client) -> Rate:
    outcomes = client.outcomes
    sent = sum(outcomes.values())
    known = {
        name: outcomes.pop(name, 0)
        for name in ('answered', 'refused', 'late', 'lost')
    }
    failed = sum(outcomes.values())
    row = Rate(factor, round(rate, 2), sent, **known, failed=failed)
    if client.seconds:
        row.p50_ms, row.p99_ms = (
            round(1e3 * x, 1) for x in np.percentile(client.seconds, (50, 99))
        )
    return row


def load_section(load: Load) -> str:
    """Format capacity and rates."""
    table = format_table(pd.DataFrame(load.rates), COLUMNS)
    return f'Capacity: {load.capacity:.1f} requests/s.\n\n{table}'
