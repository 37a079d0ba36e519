"""Many images through a host model whose images may leave early."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from os import PathLike
from threading import TIMEOUT_MAX, Lock
from typing import Any

import numpy as np
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmscope.errors import UserError
from mmscope.inference.hosts import open_host
from mmscope.inference.intake import Ended, Intake, NotReady, Stream
from mmscope.inference.reading import ImageFailure, ImageReader
from mmscope.inference.refill import Refill
from mmscope.inference.waiting import COARSE, FINE, PREDICT, Waiting
from mmscope.models.layers import (
    check_whole,
    is_number,
    one_thread,
    unwrap_model,
)
from mmscope.visualization.image_files import loading_pipeline


class TwoStageEngine:
    """Predicts a stream of images in full batches.

    In a plain gated loop every batch waits for its unsure images, whose fine
    stage then runs on a few. Here the unsure images of several coarse batches
    are put together into full fine batches, and neck and head see full
    batches too. Results are those of ``model.test_step`` on each image alone,
    and come in the order of the images.

    Works with models of mmpretrain, mmseg and mmdet: backbones of two stages
    in any of their families, token reductions and plain backbones, for which
    it is a batched loop (as for models that look at an image in windows).

    Settings are the model's: engines of one thread may share a model, one of
    another thread needs a copy (``copy.deepcopy``), or is refused while the
    first has a stream.

    Example::

        engine = TwoStageEngine(model, threshold=0.8)
        for result in engine(paths):
            if isinstance(result, ImageFailure):
                print(result.name, result.reason)
            else:
                print(result.img_path, result.pred_label, result.exited)

    Args:
        model (nn.Module): Host model; put into evaluation mode.
        threshold (float | None): Exit threshold η; None lets nobody exit,
            and is the only choice for a backbone of one stage.
        coarse_batch (int): Images of a full coarse batch. Defaults to 32.
        fine_batch (int): Images of a full fine batch, and of one of neck and
            head. Defaults to 32.
        max_waiting (int | None): Images inside at most, which bounds the
            memory; None for four of both batches. Defaults to None.
        max_wait (float | None): Seconds that an image waits for others to
            fill a batch; None has no limit, right for files. Defaults to
            None.
        pipeline (Sequence[dict] | None): Makes inputs of paths and
            pictures; None for the test pipeline of ``model.cfg``. Defaults
            to None.
        num_workers (int): Processes that decode; 0 decodes in a thread.
            Defaults to 0.

    Raises:
        ValueError: If a size is not positive, the threshold is invalid, or
            the model cannot exit.
    """

    def __init__(
        self,
        model: nn.Module,
        threshold: float | None,
        coarse_batch: int = 32,
        fine_batch: int = 32,
        *,
        max_waiting: int | None = None,
        max_wait: float | None = None,
        pipeline: Sequence[dict] | None = None,
        num_workers: int = 0,
    ) -> None:
        check_whole('coarse_batch', coarse_batch)
        check_whole('fine_batch', fine_batch)
        if max_waiting is None:
            max_waiting = 4 * (coarse_batch + fine_batch)
        check_whole('max_waiting', max_waiting)
        check_whole('num_workers', num_workers, 0)
        if max_wait is not None and not (
            is_number(max_wait) and 0 < max_wait <= TIMEOUT_MAX
        ):
            raise ValueError(
                'max_wait is None (no limit) or a number of seconds > 0, '
                f'got {max_wait!r}'
            )
        self.model = unwrap_model(model)
        self.max_waiting, self.max_wait = max_waiting, max_wait
        self.num_workers = num_workers
        self._host = open_host(model, threshold)
        self._batches = {
            COARSE: coarse_batch,
            FINE: fine_batch,
            PREDICT: fine_batch,
        }
        if self._host.first == PREDICT:
            self._batches[PREDICT] = coarse_batch
        self.reader = _make_reader(self.model, pipeline)
        self._in_use = Lock()

    def __call__(self, images: Iterable[Any]) -> Iterator[Any]:
        """Predict images.

        Args:
            images (Iterable): Paths, pictures (H, W, 3) uint8 in BGR,
                preprocessed tensors (C, H, W), which the data preprocessor
                is not asked about, or items of a data set (dicts with
                inputs and data_samples). It is read in a thread, at most
                ``coarse_batch`` images ahead.

        Yields:
            Any: For each image the host's data sample with ``exited``
            (bool), ``confidence`` (None where nobody was asked) and
            ``macs`` (paper's convention) in its metainfo, or an
            :class:`ImageFailure`.

        Raises:
            UserError: At what is no image, and if ``images`` is one image.
            Exception: What ``images`` raises, after the results of the
                images before.
        """
        _check_several(images)
        ahead = self._batches[self._host.first]
        with closing(
            Stream(images, self.reader, self.num_workers, ahead)
        ) as stream:
            for one in self.run(stream):
                yield one.result

    def run(self, intake: Intake, serving: bool = False) -> Iterator[Waiting]:
        """Predict what an intake gives, until it ends.

        Args:
            intake (Intake): Gives tickets and items.
            serving (bool): See :class:`Refill`. Defaults to False.

        Yields:
            Waiting: With ``ticket`` and ``result``.

        Raises:
            RuntimeError: If the engine is in use, or another thread uses
                the model.
            Exception: What ended the intake, after all results.
        """
        refill = Refill(
            self._host,
            self._batches,
            self.max_waiting,
            self.max_wait,
            serving,
        )
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError(
                'the engine predicts another stream: finish or close that '
                'one, or make a second engine of a copy of the model'
            )
        end: Ended | None = None
        with (
            _released(self._in_use),
            one_thread(self._host.backbone) as go_on_here,
            self._host.counting(),
        ):
            while end is None or len(refill):
                go_on_here()
                if end is None:
                    end = self._take(intake, refill)
                if batch := refill.due(ending=end is not None):
                    refill.run(batch)
                yield from refill.finished()
        if end.__cause__ is not None:
            raise end.__cause__

    def _take(self, intake: Intake, refill: Refill) -> Ended | None:
        """Take what is there, or wait for it; gives the end of the intake."""
        while not (refill.is_full or refill.full_batch()):
            try:
                ticket, item = intake.get(refill.patience())
            except NotReady:
                break
            except Ended as end:
                return end
            arrived = time.monotonic()
            refill.add(Waiting.of(ticket, arrived, self._host.first, item))
            if isinstance(item, ImageFailure):
                break
        return None


@contextmanager
def _released(lock: Lock) -> Iterator[None]:
    try:
        yield
    finally:
        lock.release()


def _make_reader(
    model: nn.Module, pipeline: Sequence[dict] | None
) -> ImageReader:
    """Read by a pipeline, or by that of the model's config, in its scope."""
    convs = (m for m in model.backbone.modules() if isinstance(m, nn.Conv2d))
    first = next(convs, None)
    channels = None if first is None else first.in_channels
    dtype = next(model.parameters()).dtype
    config = getattr(model, 'cfg', None)
    if pipeline is not None or config is None:
        return ImageReader(pipeline, channels, dtype)
    scope = config.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope):
        return ImageReader(loading_pipeline(config), channels, dtype)


def _check_several(images: Any) -> None:
    """Refuse what would be taken apart into characters, rows or keys."""
    one = isinstance(images, (str, bytes, PathLike, Mapping))
    pixels = isinstance(images, (np.ndarray, Tensor)) and images.ndim < 4
    # What has no __iter__ may still have items by number, as data sets do.
    several = isinstance(images, Iterable) or hasattr(images, '__getitem__')
    if one or pixels or not several:
        raise UserError(
            'the engine takes several images, such as a list of paths, got '
            f'{type(images).__name__}: for one image give [image]'
        )
