"""Images read ahead of the model, in worker processes or here."""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from mmscope.inference.reading import ImageReader, Item

# Seconds after which a thread that waits looks whether it is still wanted.
GLANCE = 0.1
_reader: ImageReader


class Ended(Exception):
    """There is no further image, perhaps because of what caused this."""


class NotReady(Exception):
    """The next image is not ready yet."""


@dataclass(eq=False)
class Ticket:
    """Whose an image is.

    Attributes:
        number (int): Its place in the stream.
        expires (float): When nobody wants its result any more, by
            ``time.monotonic``.
    """

    number: int
    expires: float = math.inf

    def is_given_up(self) -> bool:
        """Tell whether nobody wants the result any more."""
        return time.monotonic() > self.expires


class Intake:
    """What waits to be taken by the model, in the order in which it came.

    Args:
        reader (ImageReader): Makes inputs.
        num_workers (int): Processes that decode; 0 decodes in the thread
            that puts.
        ahead (int): Images read ahead at most.
    """

    def __init__(
        self, reader: ImageReader, num_workers: int, ahead: int
    ) -> None:
        self._reader = reader
        self._ready: queue.Queue = queue.Queue(ahead)
        self._head: tuple[Ticket, Future] | None = None
        self._closed = Event()
        self._pool = None
        if num_workers:
            self._pool = ProcessPoolExecutor(
                num_workers,
                multiprocessing.get_context(),
                _start_worker,
                (reader,),
            )
            # Processes start here, before any thread computes.
            self._pool.submit(os.getpid).result()

    def put(self, ticket: Ticket, image: Any) -> None:
        """Add an image; waits while there are too many.

        Args:
            ticket (Ticket): Comes out with it.
            image (Any): See :class:`ImageReader`.
        """
        self._put((ticket, self._read(ticket.number, image)))

    def _read(self, number: int, image: Any) -> Future:
        future: Future = Future()
        try:
            if self._pool is not None and self._reader.must_decode(image):
                return self._pool.submit(_read_here, number, image)
            future.set_result(self._reader(number, image))
        # Told to who takes it.
        except Exception as error:
            future.set_exception(error)
        return future

    def end(self, error: BaseException | None = None) -> None:
        """Say that no image follows, perhaps because of an error."""
        future: Future = Future()
        future.set_exception(error or Ended())
        self._put((Ticket(-1), future))

    def _put(self, entry: tuple[Ticket, Future]) -> None:
        while not self._closed.is_set():
            try:
                return self._ready.put(entry, timeout=GLANCE)
            except queue.Full:
                continue

    def get(self, timeout: float | None) -> tuple[Ticket, Any]:
        """Take the next image.

        Args:
            timeout (float | None): Seconds to wait, None without limit.

        Returns:
            tuple[Ticket, Any]: Ticket, and what the reader gave.

        Raises:
            NotReady: If none was ready in time.
            Ended: If none follows; its cause is what went wrong.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        if self._head is None:
            try:
                self._head = self._ready.get(timeout != 0, timeout)
            except queue.Empty:
                raise NotReady from None
        ticket, future = self._head
        left = None if ends is None else max(ends - time.monotonic(), 0)
        if not wait([future], left).done:
            raise NotReady
        self._head = None
        error = future.exception()
        if error is None:
            return ticket, _as_tensors(future.result())
        if isinstance(error, Ended):
            raise error
        if isinstance(error, BrokenProcessPool):
            error = RuntimeError(
                'a process that decodes images was killed, perhaps for lack '
                'of memory: use fewer num_workers'
            )
        raise Ended from error

    def close(self) -> None:
        """Let go of all images and end the processes."""
        self._closed.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class Stream(Intake):
    """An intake that a thread fills from an iterable.

    Args:
        images (Iterable): See :class:`ImageReader`; read as they are wanted.
        reader (ImageReader): See :class:`Intake`.
        num_workers (int): See :class:`Intake`.
        ahead (int): See :class:`Intake`.
    """

    def __init__(
        self,
        images: Iterable[Any],
        reader: ImageReader,
        num_workers: int,
        ahead: int,
    ) -> None:
        super().__init__(reader, num_workers, ahead)
        self._images = images
        # A daemon: nothing can interrupt an iterable that waits for images.
        Thread(target=self._fill, name='mmscope-images', daemon=True).start()

    def _fill(self) -> None:
        try:
            for number, image in enumerate(self._images):
                if self._closed.is_set():
                    return
                self.put(Ticket(number), image)
        except BaseException as error:
            self.end(error)
        else:
            self.end()


def _start_worker(reader: ImageReader) -> None:
    global _reader
    _reader = reader
    # Ctrl-C goes to all processes of a terminal; the parent ends its own.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Processes share the cores already.
    torch.set_num_threads(1)
    parent = os.getppid()
    Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    # One that is killed cannot end its processes. What it forked meanwhile
    # may hold the sentinel open; a fork server is no parent that is killed.
    sentinel = multiprocessing.parent_process().sentinel
    while os.getppid() == parent:
        if connection.wait([sentinel], timeout=1):
            break
    os._exit(1)


def _read_here(number: int, image: Any) -> Any:
    found = _reader(number, image)
    if isinstance(found, dict):
        # Pickled as bytes: shared memory would cost an open file an image.
        found['inputs'] = found['inputs'].numpy()
    return found


def _as_tensors(item: Item | Any) -> Item | Any:
    if isinstance(item, dict) and isinstance(item['inputs'], np.ndarray):
        item['inputs'] = torch.from_numpy(item['inputs'])
    return item
