"""Metrics on what a backbone decided, image by image."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.fileio import dump
from mmengine.logging import print_log

from mmscope.analysis import SharedCostCounter
from mmscope.analysis.costs import direction_count
from mmscope.models import TokenBackbone
from mmscope.models.layers import Record
from mmscope.whole_files import drafted


@dataclass
class ImageStatistics:
    """What the forwards of one image add up to.

    Args:
        tokens (float): Length of the sequences.
        macs (float): Neck and heads included.
        img_path (str | None): The image. Defaults to None.
    """

    tokens: float
    macs: float
    img_path: str | None = None


class RecordMetric(BaseMetric):
    """Averages over images what the records of their forwards say.

    Statistics are per image: a sliding window or a test-time view is a
    forward of its own, and what an image costs is the sum over them.

    Attributes:
        averages (dict[str, tuple[str, float]]): For each metric the
            ``ImageStatistics`` that is averaged, and its unit.
        hook (str): Hook that binds the metric.
        decision (str): What a record tells of, for messages.
        convention (str): That of who names none.

    Args:
        convention (str | None): How MACs are counted, 'paper' (one scan
            direction) or 'exact' (both). Defaults to None, the class's own.
        dump_path (str | None): JSON file for the per-image results; they
            are also kept in ``last_results``. Defaults to None.
        **kwargs (Any): ``collect_device``, ``prefix`` and ``collect_dir``
            of mmengine's ``BaseMetric``.
    """

    averages: dict[str, tuple[str, float]]
    hook: str
    decision: str
    convention = 'paper'

    def __init__(
        self,
        convention: str | None = None,
        dump_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if convention is not None:
            self.convention = convention
        direction_count(self.convention)
        self.dump_path = dump_path
        self.last_results: list[ImageStatistics] | None = None
        self.backbone: TokenBackbone | None = None
        self._shared: SharedCostCounter | None = None
        self._records: list[Record] | None = None

    @abstractmethod
    def check_backbone(self, backbone: TokenBackbone) -> None:
        """Refuse, by ValueError, a backbone that decides nothing."""

    @abstractmethod
    def count_images(self, record: Record) -> int | None:
        """Count the images of one forward; None where it does not say."""

    @abstractmethod
    def summarise(
        self, records: Sequence[Record], num_images: int, outside: float
    ) -> list[ImageStatistics]:
        """Sum up the forwards (windows, views) of a batch, image by image.

        ``outside`` are MACs an image of neck and heads.
        """

    def bind(
        self,
        backbone: TokenBackbone,
        shared_counter: SharedCostCounter | None = None,
        records: list[Record] | None = None,
    ) -> None:
        """Read the records of this backbone from now on.

        Whoever binds the metric observes the model meanwhile::

            with observe(model) as records:
                metric.bind(model.backbone, records=records)
                for batch in loader:
                    metric.process(batch, predict(model, batch))

        Args:
            backbone (TokenBackbone): Backbone of the model.
            shared_counter (SharedCostCounter | None): Counts neck and heads.
                None leaves them out of the cost. Defaults to None.
            records (list[Record] | None): Of an open ``observe``; the metric
                takes out what it has counted. Defaults to None, with which
                there is nothing to count.

        Raises:
            ValueError: If the backbone decides nothing of the kind.
        """
        self.check_backbone(backbone)
        self.backbone, self._shared = backbone, shared_counter
        self._records = records
        if records is not None:
            records.clear()
        if shared_counter is not None:
            shared_counter.reset()

    def process(
        self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]
    ) -> None:
        """Sum up the records of one batch, image by image.

        Args:
            data_batch (Any): Ignored.
            data_samples (Sequence[Mapping[str, Any]]): Predictions, one an
                image; only their number and ``img_path`` are used.

        Raises:
            RuntimeError: If nothing is bound, or the records do not belong
                to these images.
        """
        num_images = len(data_samples)
        records = self._take_records(num_images)
        outside = 0.0
        if self._shared is not None:
            outside = self._shared.per_image(num_images)
            self._shared.reset()
        found = self.summarise(records, num_images, outside)
        for result, sample in zip(found, data_samples, strict=True):
            result.img_path = sample.get('img_path')
            self.results.append(result)

    def _take_records(self, num_images: int) -> list[Record]:
        name = type(self).__name__
        if self._records is None:
            raise RuntimeError(
                f'{name} is bound to no records of {self.decision}s; add '
                f"dict(type='mmscope.{self.hook}') to custom_hooks, or "
                'call metric.bind(model.backbone, records=records) inside '
                '`with mmscope.models.observe(model) as records:`'
            )
        records = list(self._records)
        self._records.clear()
        if not records:
            raise RuntimeError(
                f'the backbone recorded no {self.decision} for this batch: '
                'the model is not observed any more, another one was '
                f'evaluated, or a second {name} took the records; bind one '
                f'{name} to the evaluated model'
            )
        rows = [self.count_images(record) for record in records]
        if any(count not in (None, num_images) for count in rows):
            raise RuntimeError(
                f'the {self.decision} records have {rows} images, the batch '
                f'has {num_images}: the model ran on something else in '
                'between; bind the metric again before evaluating'
            )
        return records

    def compute_metrics(
        self, results: list[ImageStatistics]
    ) -> dict[str, float]:
        """Average over the images of all processes; costs are in GMACs."""
        self.last_results = results
        if self.dump_path is not None:
            self._dump(self.dump_path, results)
        return {
            name: math.fsum(getattr(one, key) for one in results)
            / len(results)
            / unit
            for name, (key, unit) in self.averages.items()
        }

    def _dump(self, path: str, results: list[ImageStatistics]) -> None:
        rows = [asdict(result) for result in results]
        try:
            # Elsewhere MMEngine's own backends write.
            whole = nullcontext(path) if '://' in path else drafted(path)
            with whole as draft:
                dump(rows, str(draft), file_format='json')
        except OSError as error:
            # The scores of hours of testing shall not be lost with it.
            print_log(
                f'dump_path {path} cannot be written ({error}): the results '
                'of single images are in last_results alone',
                'current',
                logging.ERROR,
            )
