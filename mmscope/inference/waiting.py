"""An image on its way through the stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmscope.analysis import StageCosts
from mmscope.inference.intake import Ticket
from mmscope.inference.reading import ImageFailure, Item
from mmscope.models.scoping.stages import CoarseStage

COARSE, FINE, PREDICT, DONE = 'coarse', 'fine', 'predict', 'done'


@dataclass
class Waiting:
    """An image between two stages.

    Attributes:
        ticket (Ticket): Whose it is.
        arrived (float): When, by the clock of the engine.
        stage (str): What it waits for; DONE where there is a result.
        item (dict | None): What the reader gave, until it is preprocessed.
        size (tuple): Images of one size share batches.
        sample (Any): Data sample of the host.
        refine (tuple[Tensor, CoarseStage] | None): What the fine stage
            needs, of this image alone.
        features (tuple[Tensor, tuple[Tensor, ...]] | None): cls and maps
            for neck and head.
        image_size (tuple[int, int]): (H, W) as the backbone sees it, before
            its own padding.
        exited (bool | None): Whether it left after the coarse stage.
        confidence (float | None): Of the gate.
        costs (StageCosts | None): MACs of the backbone.
        result (Any): Data sample, failure or exception.
    """

    ticket: Ticket
    arrived: float
    stage: str
    item: Item | None = None
    size: tuple[Any, ...] = ()
    sample: Any = None
    refine: tuple[Tensor, CoarseStage] | None = None
    features: tuple[Tensor, tuple[Tensor, ...]] | None = None
    image_size: tuple[int, int] = (0, 0)
    exited: bool | None = None
    confidence: float | None = None
    costs: StageCosts | None = None
    result: Any = None

    @classmethod
    def of(
        cls,
        ticket: Ticket,
        arrived: float,
        stage: str,
        item: Item | ImageFailure,
    ) -> Waiting:
        """Let an image wait, unless it could not be read."""
        if isinstance(item, ImageFailure):
            return cls(ticket, arrived, DONE, result=item)
        inputs = item['inputs']
        size = (*inputs.shape, inputs.dtype, 'data_samples' in item)
        return cls(ticket, arrived, stage, item, size)

    @property
    def can_run(self) -> bool:
        """Whether it still has what its stage takes."""
        inputs = (self.item, self.refine, self.features)
        return any(given is not None for given in inputs)

    def finish(self, sample: Any, macs: float) -> None:
        """Set the host's data sample as the result."""
        sample.set_metainfo(
            {
                'exited': self.exited,
                'confidence': self.confidence,
                'macs': macs,
            }
        )
        self.end(sample)

    def end(self, result: Any) -> None:
        """Set the result, which may be an exception, and free memory."""
        self.result, self.stage = result, DONE
        self.item = self.sample = self.refine = self.features = None
