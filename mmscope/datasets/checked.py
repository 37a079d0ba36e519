"""Data sets that look at their files before anything is trained on them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mmengine.logging import print_log

from mmscope.errors import DatasetLayoutError

from .lists import read_classes
from .masks import turned_note


class CheckedItems:
    """A data set whose files can be looked at one by one, completely.

    It opens a sample of them when it is built, unless ``sampling`` is off.
    What looks wrong and need not be is a warning, or with ``strict`` an
    error.
    """

    sampling = True
    strict = False
    said: tuple[str, ...] = ()
    _told_of_turned = False

    def check_item(self, index: int) -> None:
        """Open and decode everything that an entry names.

        Args:
            index (int): Index of the entry.

        Raises:
            DatasetLayoutError: If a file is damaged or does not fit.
        """
        raise NotImplementedError

    def doubts(self) -> str:
        """Say what looks wrong in the items checked, and need not be.

        Returns:
            str: A sentence, '' for nothing.
        """
        return ''

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping | None = None) -> dict:
        """Read a file of class names in the one way it can be."""
        classes = (metainfo or {}).get('classes')
        if isinstance(classes, str) and os.path.exists(classes):
            metainfo = {**metainfo, 'classes': read_classes(classes)}
        return super()._load_metainfo(metainfo)

    def warn(self, text: str) -> None:
        """Warn of what looks wrong.

        Args:
            text (str): A sentence; nothing happens for ''.

        Raises:
            DatasetLayoutError: With the text, if ``strict``.
        """
        if text and self.strict:
            raise DatasetLayoutError(text)
        if text:
            self.say(text)

    def warn_of_turned(self, image: str, labels: str) -> None:
        """Warn, once, of an image that loading turns and its labels not.

        Args:
            image (str): The file.
            labels (str): What is not turned, such as 'masks'.

        Raises:
            DatasetLayoutError: If ``strict``.
        """
        if self.strict or not self._told_of_turned:
            self._told_of_turned = True
            self.warn(f'{turned_note([image], 1, labels)}.')

    def say(self, text: str) -> None:
        """Warn, however strict, and keep it for :meth:`doubts`.

        Args:
            text (str): A sentence.
        """
        self.said = (*self.said, text)
        print_log(text, 'current', logging.WARNING)


@contextmanager
def without_samples() -> Iterator[None]:
    """Build data sets that open no file before :meth:`check_item` does."""
    CheckedItems.sampling = False
    try:
        yield
    finally:
        CheckedItems.sampling = True
