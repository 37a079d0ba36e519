"""What hooks share that observe a model's steps and evaluations."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmscope.analysis import SharedCostCounter
from mmscope.engine.hooks.cleaning import CleaningHook
from mmscope.evaluation.record_metric import RecordMetric
from mmscope.models import TokenBackbone
from mmscope.models.layers import Record, observe, unwrap_model


class StepLosses(ABC):
    """Completes the losses of a host that does not know of all of them.

    A forward hook that keeps no reference to model or runner, so that a deep
    copy of the model (EMA) copies nothing else, and adds no losses.
    """

    def __init__(self) -> None:
        # None while nobody observes, as in a copy.
        self.records: list[Record] | None = None

    def __call__(
        self, model: nn.Module, args: tuple, kwargs: dict, output: Any
    ) -> dict[str, Tensor] | None:
        """Add to a loss dict what the records of the step give."""
        given = inspect.signature(model.forward).bind(*args, **kwargs)
        given.apply_defaults()
        if given.arguments.get('mode') != 'loss' or self.records is None:
            return None
        records = list(self.records)
        self.records.clear()
        samples = given.arguments['data_samples']
        return {**output, **self.losses(model, records, samples)}

    @abstractmethod
    def losses(
        self, model: nn.Module, records: list[Record], data_samples: list
    ) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            model (nn.Module): Host model.
            records (list[Record]): Of the forwards of this step.
            data_samples (list): Annotations.

        Returns:
            dict[str, Tensor]: Weighted scalars.
        """

    def __deepcopy__(self, memo: dict) -> StepLosses:
        copied = copy.copy(self)
        copied.records = None
        return copied


class ObservingHook(CleaningHook, ABC):
    """Observes training steps for losses, and evaluations for a metric.

    Args:
        losses (StepLosses): What a plain host lacks.
        trained_by (type): Hosts of this class bring these losses.
        metric (type[RecordMetric]): Added where the evaluator has none.
    """

    # Before EMAHook copies the model.
    priority = 'HIGH'

    def __init__(
        self, losses: StepLosses, trained_by: type, metric: type[RecordMetric]
    ) -> None:
        super().__init__()
        self._losses = losses
        self._trained_by, self._metric = trained_by, metric
        self._handle: RemovableHandle | None = None
        # What is open during a step or an evaluation.
        self._open = ExitStack()

    @abstractmethod
    def find_backbone(self, model: nn.Module) -> TokenBackbone:
        """Find the backbone that is observed, or raise."""

    def _take_off(self) -> None:
        self._open.close()
        self._losses.records = None
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def before_train(self, runner: Runner) -> None:
        """Complete the losses of a host that has none of its own."""
        model = unwrap_model(runner.model)
        if self._handle is None and not isinstance(model, self._trained_by):
            self._handle = model.register_forward_hook(
                self._losses, with_kwargs=True
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Observe the step."""
        if self._handle is not None:
            self._open.close()
            records = self._open.enter_context(observe(runner.model))
            self._losses.records = records

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Let go of it; a record that nobody took is an error."""
        if self._handle is None:
            return
        self._open.close()
        left, self._losses.records = self._losses.records, None
        if left:
            raise RuntimeError(
                f'{len(left)} forward(s) of the backbone in this step got no '
                f'losses of {type(self).__name__}: the model must run once a '
                "step, with mode='loss'"
            )

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        self._take_off()

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting."""
        self._start(runner.model, runner.val_loop.evaluator)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Stop counting."""
        self._open.close()

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting."""
        self._start(runner.model, runner.test_loop.evaluator)

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Stop counting."""
        self._open.close()

    def _start(self, model: nn.Module, evaluator: Evaluator) -> None:
        self._open.close()
        backbone = self.find_backbone(model)
        records = self._open.enter_context(observe(model))
        counter = SharedCostCounter(unwrap_model(model), backbone)
        self._open.callback(counter.remove)
        found = [m for m in evaluator.metrics if isinstance(m, self._metric)]
        if not found:
            found = [self._metric()]
            found[0].dataset_meta = evaluator.dataset_meta
            evaluator.metrics.extend(found)
        for metric in found:
            metric.bind(backbone, counter, records)
