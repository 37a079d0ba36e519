"""How far a long run is."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import TextIO

from mmscope.inference.rows import Row

# Seconds between two reports, on a terminal and in a log.
TERMINAL, LOG = 0.5, 30.0


class Progress:
    """Counts rows, and says now and then what they come to.

    Args:
        total (int): Images in all.
        stream (TextIO | None): Where it reports; None for stderr. Defaults
            to None.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total, self._stream = total, stream or sys.stderr
        self.images = self.failed = self.exited = self.judged = 0
        self._gmacs, self._before = 0.0, 0
        self._start = self._told = time.monotonic()

    def resume(self, exited: list, gmacs: list, error: list) -> None:
        """Count rows of an earlier run."""
        for row in zip(exited, gmacs, error, strict=True):
            self._count(*row)
        self._before = self.images

    def add(self, row: Row) -> None:
        """Count a row of this run, and perhaps report."""
        self._count(row.get('exited'), row.get('gmacs'), row.get('error'))
        wait = TERMINAL if self._stream.isatty() else LOG
        if time.monotonic() - self._told >= wait:
            self._told = time.monotonic()
            print(
                self.sentence(),
                end='\r' if self._stream.isatty() else '\n',
                file=self._stream,
                flush=True,
            )

    def _count(
        self, exited: bool | None, gmacs: float | None, error: str | None
    ) -> None:
        self.images += 1
        self.failed += error is not None
        self.judged += exited is not None
        self.exited += bool(exited)
        self._gmacs += gmacs or 0.0

    def sentence(self) -> str:
        """Say how far it is, how fast, and what images cost on average."""
        new = self.images - self._before
        speed = new / max(time.monotonic() - self._start, 1e-9)
        parts = [f'{self.images:,} of {self.total:,} images']
        parts.append(f'{speed:.1f} images/s')
        if self.judged:
            parts.append(f'{100 * self.exited / self.judged:.1f} % exited')
        if good := self.images - self.failed:
            parts.append(f'{self._gmacs / good:.4g} GMACs an image')
        if self.failed:
            parts.append(f'{self.failed:,} could not be read')
        if new and self.images < self.total:
            left = round((self.total - self.images) / speed)
            parts.append(f'{timedelta(seconds=left)} to go')
        return ', '.join(parts)
