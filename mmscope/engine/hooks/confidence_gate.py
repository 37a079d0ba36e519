"""Early exits in ordinary configs: wiring, losses, statistics."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmscope.analysis import SharedCostCounter
from mmscope.evaluation import EarlyExitMetric
from mmscope.models.heads.confidence import ALL_CONFIDENCES
from mmscope.models.layers import Record, observe, unwrap_model
from mmscope.models.losses import (
    TrainsCoarseStage,
    check_kl_direction,
    coarse_fine_kl,
    exit_head_losses,
    feature_consistency,
    stage_outputs,
)
from mmscope.models.scoping import (
    HostGate,
    StageOutputs,
    attach_gate,
    check_temperature,
    check_threshold,
    find_backbone,
)
from mmscope.registry import HOOKS


class CoarseStageLosses:
    """Completes the losses of a plain host, which knows of one stage.

    A forward hook that keeps no reference to model or runner, so that a deep
    copy of the model (EMA) copies nothing else.

    Args:
        feature_weight (float): Weight of the feature consistency.
        kl_weight (float): Weight of the divergence of class predictions.
        kl_direction (str): See :func:`coarse_fine_kl`.
    """

    def __init__(
        self, feature_weight: float, kl_weight: float, kl_direction: str
    ) -> None:
        self.feature_weight = feature_weight
        self.kl_weight = kl_weight
        self.kl_direction = check_kl_direction(kl_direction)
        # None while nobody observes, as in a copy.
        self.records: list[Record] | None = None

    def __call__(
        self, model: nn.Module, args: tuple, kwargs: dict, output: Any
    ) -> dict[str, Tensor] | None:
        """Add what trains the coarse stage to a loss dict."""
        given = inspect.signature(model.forward).bind(*args, **kwargs)
        given.apply_defaults()
        if given.arguments.get('mode') != 'loss' or self.records is None:
            return None
        outputs = stage_outputs(self.records)
        self.records.clear()
        samples = given.arguments['data_samples']
        losses = exit_head_losses(model.backbone, outputs, samples)
        if outputs.fine_maps:
            consistency = feature_consistency(outputs)
            losses['loss_feature_consistency'] = (
                self.feature_weight * consistency
            )
        elif model.backbone.exit_head is None and not isinstance(
            model.head, TrainsCoarseStage
        ):
            losses['loss_kl'] = self._divergence(model, outputs)
        return {**output, **losses}

    def _divergence(self, model: nn.Module, outputs: StageOutputs) -> Tensor:
        host = HostGate(model)
        if host.meaning != 'softmax':
            raise ValueError(
                'Eq. 21 brings distributions over classes together, and '
                f'{type(model.head).__name__} predicts {host.meaning}: train '
                'it with backbone.exit_head, or with a single-label head'
            )
        coarse = host.logits(outputs.coarse_cls)
        fine = host.logits(outputs.fine_cls)
        return self.kl_weight * coarse_fine_kl(coarse, fine, self.kl_direction)

    def __deepcopy__(self, memo: dict) -> CoarseStageLosses:
        return type(self)(
            self.feature_weight, self.kl_weight, self.kl_direction
        )


@HOOKS.register_module()
class ConfidenceGateHook(Hook):
    """Let confident images exit, train for it, and count who did.

    In any host it wires the gate and, through an ``EarlyExitMetric`` that it
    adds where the evaluator has none, reports ``early_exit/exit_ratio``,
    ``mean_tokens`` and ``mean_cost`` with the other metrics (log, message
    hub, visualizer). In a plain host, which knows nothing of two stages, it
    also completes the loss dict: a dense host gets the exit head's losses and
    a feature consistency, a classifier the KL term of Eq. 21 unless its head
    brings it. Our own hosts bring all of theirs.

    Example::

        custom_hooks = [
            dict(type='mmscope.ConfidenceGateHook', exit_threshold=0.8),
        ]

    Args:
        exit_threshold (float | None): η, number >= 0; None leaves that of
            the model. Defaults to None.
        feature_weight (float): Weight of the feature consistency in plain
            hosts. Defaults to 1.
        confidence (str | None): Kind of confidence, 'max_prob' or 'entropy'
            of a classifier's head, those of :class:`MultiLabelExitHead`
            elsewhere; None leaves that of the model. Defaults to None.
        kl_weight (float): Weight of the KL term in a plain classifier.
            Defaults to 1.
        kl_direction (str): See :func:`coarse_fine_kl`. Defaults to 'pq'.
        temperature (float | None): T > 0 that logits are divided by before
            they are judged; None leaves that of the model. Defaults to None.

    Raises:
        ValueError: If the threshold, the kind of confidence, the direction
            or the temperature is invalid.
    """

    # Before EMAHook copies the model.
    priority = 'HIGH'

    def __init__(
        self,
        exit_threshold: float | None = None,
        feature_weight: float = 1.0,
        confidence: str | None = None,
        kl_weight: float = 1.0,
        kl_direction: str = 'pq',
        temperature: float | None = None,
    ) -> None:
        self.exit_threshold = check_threshold(exit_threshold)
        if confidence is not None and confidence not in ALL_CONFIDENCES:
            raise ValueError(
                f'confidence must be None or one of {ALL_CONFIDENCES}, got '
                f'{confidence!r}'
            )
        if temperature is not None:
            temperature = check_temperature(temperature)
        self.temperature = temperature
        self._losses = CoarseStageLosses(
            feature_weight, kl_weight, kl_direction
        )
        self.confidence = confidence
        self._handle: RemovableHandle | None = None
        # What is open during a step or an evaluation.
        self._open = ExitStack()

    def before_run(self, runner: Runner) -> None:
        """Wire the gate."""
        attach_gate(
            runner.model,
            self.exit_threshold,
            self.confidence,
            self.temperature,
        )

    def before_train(self, runner: Runner) -> None:
        """Complete the losses of a host that has none for the exits."""
        model = unwrap_model(runner.model)
        if self._handle is None and not isinstance(model, TrainsCoarseStage):
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
                'losses for the coarse stage: the model must run once a '
                "step, with mode='loss'"
            )

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        self._open.close()
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

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
        backbone = find_backbone(model)
        records = self._open.enter_context(observe(model))
        counter = SharedCostCounter(unwrap_model(model), backbone)
        self._open.callback(counter.remove)
        metrics = [
            m for m in evaluator.metrics if isinstance(m, EarlyExitMetric)
        ]
        if not metrics:
            metrics = [EarlyExitMetric()]
            metrics[0].dataset_meta = evaluator.dataset_meta
            evaluator.metrics.extend(metrics)
        for metric in metrics:
            metric.bind(backbone, counter, records)
