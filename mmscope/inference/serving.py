"""The engine for requests that come one by one."""

from __future__ import annotations

import itertools
import os
import time
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from threading import Lock, Thread, current_thread
from types import TracebackType
from typing import Any

from torch import nn

from mmscope.inference.engine import TwoStageEngine
from mmscope.inference.intake import Intake, Ticket
from mmscope.inference.refill import DeadlinePassed as DeadlinePassed
from mmscope.models.layers import check_whole, is_number


class Overloaded(RuntimeError):
    """There are as many requests as can be held; come back later."""


@dataclass(eq=False)
class Request(Ticket):
    """A ticket with a promise."""

    future: Future = field(default_factory=Future)

    def is_given_up(self) -> bool:
        """Tell whether nobody wants the result any more."""
        return self.future.cancelled() or super().is_given_up()

    def answer(self, result: Any) -> None:
        """Keep the promise, unless it was cancelled."""
        if not self.future.set_running_or_notify_cancel():
            return
        if isinstance(result, BaseException):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class EngineServer:
    """Answers requests by a future each, from one thread.

    Requests that come together share batches; nobody waits longer than the
    engine's ``max_wait`` for others. Results come as they are ready, so an
    image that exits does not wait for those that do not. Too many requests
    are refused at once instead of being answered too late.

    Settings are the model's, and the server's thread has it until it is
    closed: everything else, ``model.test_step`` too, needs a copy of the
    model (``copy.deepcopy``). Processes that are forked do not inherit the
    thread: each makes a server of its own.

    Example::

        engine = TwoStageEngine(model, 0.8, 8, 8, max_wait=0.02)
        with EngineServer(engine) as server:
            future = server.submit(picture, deadline=0.5)
            sample = future.result()
            sample = await asyncio.wrap_future(server.submit(picture))

    Args:
        engine (TwoStageEngine): With ``max_wait``.
        max_pending (int | None): Requests held at most, in all stages; None
            for the engine's ``max_waiting``. Defaults to None.

    Raises:
        TypeError: If it is no engine.
        ValueError: If the engine has no ``max_wait``, or ``max_pending`` is
            not positive.
    """

    def __init__(
        self, engine: TwoStageEngine, max_pending: int | None = None
    ) -> None:
        if not isinstance(engine, TwoStageEngine):
            raise TypeError(
                'a server needs a TwoStageEngine(model, ...), got '
                f'{type(engine).__name__}'
            )
        if engine.max_wait is None:
            raise ValueError(
                'a server needs an engine with max_wait, such as 0.02 '
                'seconds: without it a lone request would wait for ever'
            )
        if max_pending is not None:
            check_whole('max_pending', max_pending)
        self.max_pending = max_pending or engine.max_waiting
        self._engine = engine
        self._process = os.getpid()
        self._intake = Intake(
            engine.reader, engine.num_workers, self.max_pending + 1
        )
        self._pending: set[Request] = set()
        self._numbers = itertools.count()
        self._changing = Lock()
        self._stopped: BaseException | str | None = None
        self._thread = Thread(
            target=self._run, name='mmscope-engine', daemon=True
        )
        self._thread.start()

    @property
    def model(self) -> nn.Module:
        """The engine's."""
        return self._engine.model

    def submit(self, image: Any, deadline: float | None = None) -> Future:
        """Ask for a prediction.

        With ``num_workers=0`` the image is decoded here, before this
        returns.

        Args:
            image (Any): As a :class:`TwoStageEngine` takes it.
            deadline (float | None): Seconds from now after which the result
                is of no use: it is not computed then, and the future raises
                :class:`DeadlinePassed`. Defaults to None.

        Returns:
            Future: Of the data sample or the ImageFailure. Cancelling it
            drops the request.

        Raises:
            Overloaded: If ``max_pending`` requests wait already.
            UserError: If it is no image.
            RuntimeError: If the server was closed, has broken down, or is
                another process's.
            ValueError: If the deadline is no number > 0.
        """
        self._check_process()
        self._engine.reader.check_kind(image)
        request = Request(next(self._numbers))
        if deadline is not None:
            if not (is_number(deadline) and deadline > 0):
                raise ValueError(
                    f'deadline is a number of seconds > 0, got {deadline!r}'
                )
            request.expires = time.monotonic() + deadline
        with self._changing:
            self._check_room()
            self._pending.add(request)
        self._intake.put(request, image)
        return request.future

    def check_room(self) -> None:
        """Refuse what :meth:`submit` would, before an image is decoded.

        Raises:
            Overloaded: If ``max_pending`` requests wait already.
            RuntimeError: If the server was closed, has broken down, or is
                another process's.
        """
        self._check_process()
        with self._changing:
            self._check_room()

    def _check_process(self) -> None:
        # Before any lock: one that was held at a fork stays so in the child.
        if os.getpid() != self._process:
            raise RuntimeError(
                'the server is of the process that made it, '
                f'{self._process}, and this is {os.getpid()}: make one after '
                'the fork'
            )

    def _check_room(self) -> None:
        if self._stopped is not None:
            raise RuntimeError(f'the server has stopped: {self._stopped}')
        if len(self._pending) >= self.max_pending:
            raise Overloaded(
                f'{self.max_pending} requests wait already: come back later'
            )

    def _run(self) -> None:
        error: BaseException = RuntimeError('the server was closed')
        try:
            with closing(self._intake):
                for one in self._engine.run(self._intake, serving=True):
                    with self._changing:
                        self._pending.discard(one.ticket)
                    one.ticket.answer(one.result)
        # A process that decodes was killed, and the like: tell everyone.
        except BaseException as found:
            error = found
        with self._changing:
            self._stopped = self._stopped or error
            left, self._pending = self._pending, set()
        for request in left:
            request.answer(error)

    def close(self) -> None:
        """Answer what was asked, then stop.

        Waits until all is answered, but not where a future's callback calls
        it: the rest is answered after that. Does nothing in a process that
        was forked: the server goes on in the one that made it.
        """
        if os.getpid() != self._process:
            return
        with self._changing:
            goes_on = self._stopped is None
            self._stopped = self._stopped or 'it was closed'
        if goes_on:
            self._intake.end()
        # The thread that runs callbacks cannot wait for its own end.
        if current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> EngineServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
