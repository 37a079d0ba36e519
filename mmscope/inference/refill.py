"""Which images run together, and when."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import takewhile

import torch

from mmscope.inference.hosts import PlainHost
from mmscope.inference.waiting import COARSE, DONE, FINE, PREDICT, Waiting

# What is run first where several batches are full: it frees most memory.
LAST_FIRST = (PREDICT, FINE, COARSE)


class DeadlinePassed(TimeoutError):
    """The result would come too late."""


class Refill:
    """Images between the stages, in the order in which they came.

    A batch runs when it is full. One that is not runs when there is no room
    for more images, an image has waited too long, or none follows.

    Args:
        host (PlainHost): Runs batches.
        batches (dict[str, int]): Images of a full batch, by stage.
        max_waiting (int): Images inside at most.
        max_wait (float | None): Seconds that an image waits for others; None
            has no limit.
        serving (bool): Results come as they are ready, images that nobody
            wants any more are dropped, and images of a batch that failed
            run alone, so that an error is that of its image; else results
            come in the order of the images and errors end the run.
    """

    def __init__(
        self,
        host: PlainHost,
        batches: dict[str, int],
        max_waiting: int,
        max_wait: float | None,
        serving: bool,
    ) -> None:
        self._host, self._batches = host, batches
        self._max_waiting, self._max_wait = max_waiting, max_wait
        self._serving = serving
        self._images: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._images)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another image."""
        return len(self._images) >= self._max_waiting

    def add(self, one: Waiting) -> None:
        """Let an image wait for others."""
        self._images.append(one)

    def patience(self) -> float | None:
        """Seconds until an image has waited too long, None for ever."""
        if self._max_wait is None or not self._images:
            return None
        waited = time.monotonic() - self._images[0].arrived
        return max(self._max_wait - waited, 0.0)

    def full_batch(self) -> list[Waiting]:
        """Find images of one size and stage that fill a batch, if there are.

        Returns:
            list[Waiting]: Of the last stage that has them.
        """
        groups = self._groups()
        for stage in LAST_FIRST:
            size = self._batches[stage]
            for (waits_for, _), group in groups.items():
                if waits_for == stage and len(group) >= size:
                    return group[:size]
        return []

    def due(self, ending: bool = False) -> list[Waiting]:
        """Choose the images to run now.

        Args:
            ending (bool): No image follows. Defaults to False.

        Returns:
            list[Waiting]: Of one size and one stage; empty if it is better
            to wait.
        """
        if self.patience() == 0:
            return self._oldest()
        if batch := self.full_batch():
            return batch
        if ending and (groups := self._groups()):
            # From the first stage on, so that later batches are fuller.
            first = max(groups, key=lambda group: LAST_FIRST.index(group[0]))
            return groups[first]
        return self._oldest() if self.is_full else []

    def _oldest(self) -> list[Waiting]:
        """What the oldest image without a result may share a batch with."""
        for (stage, _), group in self._groups().items():
            return group[: self._batches[stage]]
        return []

    def _groups(self) -> dict[tuple, list[Waiting]]:
        """Images by stage and size, the group of the oldest image first."""
        ready = len(self._images)
        if not self._serving:
            # Features are small; results, such as logits of each pixel, are
            # made when they can be handed out.
            ready = sum(1 for _ in takewhile(_is_ready, self._images))
        groups: dict[tuple, list[Waiting]] = {}
        for place, one in enumerate(self._images):
            if one.stage != DONE and (one.stage != PREDICT or place < ready):
                groups.setdefault((one.stage, one.size), []).append(one)
        return groups

    @torch.no_grad()
    def run(self, batch: list[Waiting]) -> None:
        """Run images of one stage and size."""
        stage = batch[0].stage
        run = self._host.stages[stage]
        if not self._serving:
            return run(batch)
        wanted = []
        for one in batch:
            if one.ticket.is_given_up():
                one.end(DeadlinePassed('the deadline passed while it waited'))
            else:
                wanted.append(one)
        try:
            if wanted:
                run(wanted)
        # Whatever is wrong with a batch, others go on.
        except Exception as error:
            _run_apart(run, stage, wanted, error)

    def finished(self) -> Iterator[Waiting]:
        """Hand out what has a result."""
        if self._serving:
            images, self._images = self._images, deque()
            for one in images:
                if one.stage == DONE:
                    yield one
                else:
                    self._images.append(one)
            return
        while self._images and self._images[0].stage == DONE:
            yield self._images.popleft()


def _run_apart(
    run: Callable[[list[Waiting]], None],
    stage: str,
    batch: list[Waiting],
    error: Exception,
) -> None:
    """Run each image of a batch that failed, where that can tell more."""
    for one in batch:
        if one.stage != stage:
            # It has got further.
            continue
        if len(batch) == 1 or not one.can_run:
            one.end(error)
            continue
        try:
            run([one])
        except Exception as own:
            one.end(own)


def _is_ready(one: Waiting) -> bool:
    return one.stage in (PREDICT, DONE)
