"""A host model, taken apart where batches may be refilled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmscope.analysis import (
    SharedCostCounter,
    add_heads,
    observe_any,
    one_stage_macs,
)
from mmscope.evaluation.early_exit_metric import image_exits
from mmscope.evaluation.image_costs import image_costs
from mmscope.inference.samples import new_sample, refuse_images
from mmscope.inference.waiting import COARSE, FINE, PREDICT, Waiting
from mmscope.models import at_threshold, attach_gate, is_two_stage
from mmscope.models.layers import holding, unwrap_model
from mmscope.models.scoping import check_threshold
from mmscope.models.scoping.stages import CoarseStage


class PlainHost:
    """A host whose images are predicted a batch at a time.

    For backbones of one stage, with or without token reduction, and for
    models that look at an image in several windows.

    Args:
        model (nn.Module): Host model.
        threshold (float | None): η, for a two-stage backbone.
    """

    first = PREDICT

    def __init__(self, model: nn.Module, threshold: float | None) -> None:
        self.model, self.threshold = model, threshold
        self.backbone: Any = model.backbone
        self._counter: SharedCostCounter | None = None

    @property
    def stages(self) -> dict[str, Callable[[list[Waiting]], None]]:
        """What runs a batch of each stage."""
        return {PREDICT: self.predict}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what neck and heads cost meanwhile."""
        with SharedCostCounter(self.model, self.backbone) as self._counter:
            yield

    def preprocess(self, batch: Sequence[Waiting]) -> Tensor:
        """Make images (B, C, H, W) and data samples, on the device.

        Args:
            batch (Sequence[Waiting]): Of one size; their items are used up.

        Returns:
            Tensor: As the backbone takes them.
        """
        items = [one.item for one in batch]
        inputs = self._moved([item['inputs'] for item in items])
        if 'data_samples' in items[0]:
            data = {**pseudo_collate(items), 'inputs': inputs}
            data = self.model.data_preprocessor(data, False)
            imgs, samples = data['inputs'], data['data_samples']
        else:
            imgs = torch.stack(inputs)
            size = tuple(imgs.shape[-2:])
            samples = [new_sample(self.model, size) for _ in items]
        for one, sample in zip(batch, samples, strict=True):
            one.item, one.sample = None, sample
            one.image_size = tuple(imgs.shape[-2:])
        return imgs

    def _moved(self, inputs: list[Tensor]) -> list[Tensor]:
        """On a GPU all at once, from pinned memory, waiting for nothing."""
        device = next(self.model.parameters()).device
        if device.type != 'cuda' or inputs[0].is_cuda:
            return inputs
        pinned = torch.stack(inputs).pin_memory()
        return list(pinned.to(device, non_blocking=True))

    def predict(self, batch: list[Waiting]) -> None:
        """Run everything.

        Args:
            batch (list[Waiting]): Of one size; each gets its result.
        """
        imgs = self.preprocess(batch)
        if refuse_images(self.backbone, batch, imgs):
            return
        samples = [one.sample for one in batch]
        self._counter.reset()
        with ExitStack() as stack:
            if is_two_stage(self.model):
                stack.enter_context(at_threshold(self.model, self.threshold))
            records = stack.enter_context(observe_any(self.model))
            samples = self.model(imgs, samples, mode='predict')
        outside = self._counter.per_image(len(batch))
        macs = self._read_records(batch, records, outside)
        for one, sample, cost in zip(batch, samples, macs, strict=True):
            one.finish(sample, cost)

    def _read_records(
        self, batch: list[Waiting], records: list[Any], outside: float
    ) -> list[float]:
        if not is_two_stage(self.model):
            return [
                outside + macs
                for macs in sum(
                    one_stage_macs(self.backbone, record, len(batch))
                    for record in records
                ).tolist()
            ]
        found = image_exits(self.backbone, records, outside)
        for one, exits in zip(batch, found, strict=True):
            one.exited = exits.exited == 1
            one.confidence = exits.confidence
        return [exits.macs for exits in found]


class RefilledHost(PlainHost):
    """A host whose coarse, fine and predicted batches are others each time.

    Neck and head run as the host runs them, on features that the stages
    made before.
    """

    first = COARSE

    @property
    def stages(self) -> dict[str, Callable[[list[Waiting]], None]]:
        """What runs a batch of each stage, the last one first."""
        return {PREDICT: self.predict, FINE: self.fine, COARSE: self.coarse}

    def coarse(self, batch: list[Waiting]) -> None:
        """Look coarsely, and ask the gate.

        Args:
            batch (list[Waiting]): Of one size; each goes on to FINE or to
                PREDICT, or fails.
        """
        imgs = self.preprocess(batch)
        if refuse_images(self.backbone, batch, imgs):
            return
        padded = self.backbone.pad(imgs)
        with at_threshold(self.model, self.threshold) as backbone:
            stage = backbone.forward_coarse(padded)
            confidence, exited = backbone.decide(stage)
        record = backbone.exit_record(stage, confidence, exited)
        (costs,) = image_costs(backbone, [record], 0.0)
        sure = [None] * len(batch)
        if confidence is not None:
            sure = confidence.tolist()
        leaves = exited.tolist()
        for one, *found in zip(batch, leaves, sure, costs, strict=True):
            one.exited, one.confidence, one.costs = found
        # Copies: who waits must not keep those who left.
        gone, stay = (mask.nonzero()[:, 0] for mask in (exited, ~exited))
        maps = tuple(level[gone] for level in stage.maps)
        left = [one for one in batch if one.exited]
        _give_features(left, stage.cls[gone], maps)
        imgs, stage = padded[stay], stage.select(stay)
        for place, one in enumerate(one for one in batch if not one.exited):
            mine = slice(place, place + 1)
            one.refine = imgs[mine], stage.select(mine)
            one.stage = FINE

    def fine(self, batch: list[Waiting]) -> None:
        """Refine.

        Args:
            batch (list[Waiting]): Of one size; each goes on to PREDICT.
        """
        imgs, stages = zip(*(one.refine for one in batch), strict=True)
        stage = self.backbone.forward_fine(
            torch.cat(imgs), CoarseStage.joined(stages)
        )
        for one in batch:
            one.refine = None
        _give_features(batch, stage.cls, stage.maps)

    def predict(self, batch: list[Waiting]) -> None:
        """Run neck and head.

        Args:
            batch (list[Waiting]): Of one size; each gets its result.
        """
        cls, maps = zip(*(one.features for one in batch), strict=True)
        cls = torch.cat(cls)
        size = batch[0].image_size
        output = self.backbone.output(
            cls, tuple(map(torch.cat, zip(*maps, strict=True))), size
        )
        # Nobody looks at the images any more, only at their shape.
        imgs = cls.new_zeros(()).expand(len(batch), 3, *size)
        self._counter.reset()
        with given_features(self.backbone, output):
            samples = self.model(
                imgs, [one.sample for one in batch], mode='predict'
            )
        outside = self._counter.per_image(len(batch))
        for one, sample in zip(batch, samples, strict=True):
            costs = add_heads(one.costs, self.backbone, outside)
            one.finish(sample, costs.exited if one.exited else costs.full)


@contextmanager
def given_features(
    backbone: nn.Module, output: tuple[Tensor, ...]
) -> Iterator[None]:
    """Let a backbone give what is known already.

    Args:
        backbone (nn.Module): Called once meanwhile, by its host.
        output (tuple[Tensor, ...]): What it gives.

    Yields:
        None: It computes again afterwards.

    Raises:
        RuntimeError: If the host does not call it exactly once.
    """
    calls = []

    def forward(imgs: Tensor) -> tuple[Tensor, ...]:
        calls.append(imgs.shape)
        return output

    with holding(backbone, forward=forward):
        yield
    if len(calls) != 1:
        raise RuntimeError(
            f'the host called its backbone {len(calls)} times for a batch '
            'whose features are known, expected once: compiled backbones '
            'and several views an image cannot be refilled'
        )


def _give_features(
    batch: list[Waiting], cls: Tensor, maps: tuple[Tensor, ...]
) -> None:
    for row, one in enumerate(batch):
        mine = slice(row, row + 1)
        one.features = cls[mine], tuple(level[mine] for level in maps)
        one.stage = PREDICT


def open_host(model: nn.Module, threshold: float | None) -> PlainHost:
    """Choose how a model's images are batched.

    Args:
        model (nn.Module): Host model, wrapped or not; it is put into
            evaluation mode and, if it exits early, gets its gate.
        threshold (float | None): η; None lets nobody exit.

    Returns:
        PlainHost: A :class:`RefilledHost` where images may exit.

    Raises:
        ValueError: If there is no backbone, the threshold is invalid, or the
            model cannot exit.
    """
    model = unwrap_model(model)
    if not isinstance(getattr(model, 'backbone', None), nn.Module):
        raise ValueError(
            'expected a host model with a backbone, such as '
            f"mmscope.from_pretrained('demo'), got {type(model).__name__}"
        )
    model.eval()
    threshold = check_threshold(threshold)
    if not is_two_stage(model):
        if threshold is not None:
            raise ValueError(
                f'threshold is {threshold}, but {type(model).__name__} has '
                f'a {type(model.backbone).__name__}, which cannot exit '
                'early: use threshold=None'
            )
        return PlainHost(model, None)
    if threshold is not None:
        attach_gate(model)
    windows = (getattr(model, 'test_cfg', None) or {}).get('mode') == 'slide'
    return (PlainHost if windows else RefilledHost)(model, threshold)
