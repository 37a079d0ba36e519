"""Early exits in ordinary configs: wiring, losses, statistics."""

from __future__ import annotations

from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmscope.analysis import SharedCostCounter
from mmscope.evaluation import EarlyExitMetric
from mmscope.models.losses import (
    coarse_fine_kl,
    exit_head_losses,
    feature_consistency,
    take_stage_outputs,
)
from mmscope.models.scoping import (
    attach_gate,
    check_threshold,
    find_backbone,
    unwrap_model,
)
from mmscope.registry import HOOKS


class AddExitLosses:
    """Forward hook that completes a plain host's losses.

    It keeps no reference to model or runner, so that a deep copy of the
    model (EMA) copies nothing else.

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
        self.kl_direction = kl_direction

    def __call__(
        self, model: nn.Module, args: tuple, kwargs: dict, output: Any
    ) -> dict[str, Tensor] | None:
        """Add what trains the coarse stage to a loss dict."""
        if kwargs.get('mode') != 'loss' or not isinstance(output, dict):
            return None
        backbone = model.backbone
        outputs = take_stage_outputs(backbone)
        samples = kwargs.get('data_samples', args[1:2][0] if args[1:] else [])
        losses = exit_head_losses(backbone, outputs, samples)
        if outputs.fine_maps:
            consistency = feature_consistency(outputs)
            losses['loss_feature_consistency'] = (
                self.feature_weight * consistency
            )
        elif not getattr(model.head, 'has_exit_losses', False):
            coarse = model.head((outputs.coarse_cls,))
            fine = model.head((outputs.fine_cls,))
            kl = coarse_fine_kl(coarse, fine, self.kl_direction)
            losses['loss_kl'] = self.kl_weight * kl
        return {**output, **losses}


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
        confidence (str | None): Kind of confidence for a classifier's head,
            'max_prob' or 'entropy'; None leaves that of the model. Defaults
            to None.
        kl_weight (float): Weight of the KL term in a plain classifier.
            Defaults to 1.
        kl_direction (str): See :func:`coarse_fine_kl`. Defaults to 'pq'.

    Raises:
        ValueError: If the threshold is invalid.
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
    ) -> None:
        self.exit_threshold = check_threshold(exit_threshold)
        self._losses_of_plain_host = AddExitLosses(
            feature_weight, kl_weight, kl_direction
        )
        self.confidence = confidence
        self._losses: RemovableHandle | None = None
        self._counter: SharedCostCounter | None = None

    def before_run(self, runner: Runner) -> None:
        """Wire the gate."""
        attach_gate(runner.model, self.exit_threshold, self.confidence)

    def before_train(self, runner: Runner) -> None:
        """Complete the losses of a host that has none for the exits."""
        model = unwrap_model(runner.model)
        if self._losses is None and not hasattr(model, 'has_exit_losses'):
            self._losses = model.register_forward_hook(
                self._losses_of_plain_host, with_kwargs=True
            )

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        if self._losses is not None:
            self._losses.remove()
            self._losses = None

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting."""
        self._start(runner.model, runner.val_loop.evaluator)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Stop counting."""
        self._stop(runner.model)

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting."""
        self._start(runner.model, runner.test_loop.evaluator)

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Stop counting."""
        self._stop(runner.model)

    def _start(self, model: nn.Module, evaluator: Evaluator) -> None:
        backbone = find_backbone(model)
        backbone.exit_records = []
        self._counter = SharedCostCounter(unwrap_model(model), backbone)
        metrics = [
            m for m in evaluator.metrics if isinstance(m, EarlyExitMetric)
        ]
        if not metrics:
            metrics = [EarlyExitMetric()]
            metrics[0].dataset_meta = evaluator.dataset_meta
            evaluator.metrics.extend(metrics)
        for metric in metrics:
            metric.bind(backbone, self._counter)

    def _stop(self, model: nn.Module) -> None:
        find_backbone(model).exit_records = None
        if self._counter is not None:
            self._counter.remove()
            self._counter = None
