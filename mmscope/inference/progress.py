"""How far a long run is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TextIO

from torch.utils.data import DataLoader

from mmscope.inference.rows import Row

# Seconds between two reports, on a terminal and in a log.
TERMINAL, LOG = 0.5, 30.0


class Pace:
    """Counts images, and says now and then how many there were.

    Args:
        total (int): Images in all.
        title (str): Begins each report. Defaults to ''.
        stream (TextIO | None): Where it reports; None for stderr. Defaults
            to None.
    """

    def __init__(
        self, total: int, title: str = '', stream: TextIO | None = None
    ) -> None:
        self.total, self.title = total, title
        self._stream = stream or sys.stderr
        self.images = self._before = 0
        self._start = self._told = time.monotonic()

    def add(self, images: int) -> None:
        """Count images of this run, and perhaps report."""
        self.images += images
        wait = TERMINAL if self._stream.isatty() else LOG
        if time.monotonic() - self._told >= wait:
            self._told = time.monotonic()
            print(
                self.title + self.sentence(),
                end='\r' if self._stream.isatty() else '\n',
                file=self._stream,
                flush=True,
            )

    def findings(self) -> list[str]:
        """Say what is known of the images so far."""
        return []

    def sentence(self) -> str:
        """Say how far it is, how fast, what was found, what is left."""
        new = self.images - self._before
        speed = new / max(time.monotonic() - self._start, 1e-9)
        parts = [f'{self.images:,} of {self.total:,} images']
        parts += [f'{speed:.1f} images/s', *self.findings()]
        if new and self.images < self.total:
            left = round((self.total - self.images) / speed)
            parts.append(f'{timedelta(seconds=left)} to go')
        return ', '.join(parts)


class Progress(Pace):
    """Counts rows, and says now and then what they come to.

    Args:
        total (int): Images in all.
        stream (TextIO | None): See :class:`Pace`. Defaults to None.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        super().__init__(total, stream=stream)
        self.failed = self.exited = self.judged = 0
        # Rows of images that this run was not asked for.
        self.others = 0
        self._gmacs = 0.0

    def resume(self, exited: list, gmacs: list, error: list) -> None:
        """Count rows of an earlier run."""
        for row in zip(exited, gmacs, error, strict=True):
            self._count(*row)
        self.images = self._before = self.images + len(exited)

    def add_row(self, row: Row) -> None:
        """Count a row of this run, and perhaps report."""
        self._count(row.get('exited'), row.get('gmacs'), row.get('error'))
        self.add(1)

    def _count(
        self, exited: bool | None, gmacs: float | None, error: str | None
    ) -> None:
        self.failed += error is not None
        self.judged += exited is not None
        self.exited += bool(exited)
        self._gmacs += gmacs or 0.0

    def findings(self) -> list[str]:
        """Say who exited, what images cost, who failed, what else is there."""
        found = []
        if self.judged:
            found.append(f'{100 * self.exited / self.judged:.1f} % exited')
        if good := self.images - self.failed:
            found.append(f'{self._gmacs / good:.4g} GMACs an image')
        if self.failed:
            found.append(f'{self.failed:,} could not be read')
        if self.others:
            found.append(f'other images in the table: {self.others:,}')
        return found


def watched(loader: DataLoader, doing: str) -> Iterator[Any]:
    """Give a loader's batches, and say now and then how far they are.

    Args:
        loader (DataLoader): Batches have their images in 'inputs'.
        doing (str): Such as 'scoring'.

    Yields:
        Any: Batches, as the loader gives them.
    """
    pace = Pace(len(loader.dataset), f'{doing}: ')
    for batch in loader:
        yield batch
        pace.add(len(batch['inputs']))
