"""Early exits in ordinary configs: wiring, losses, statistics."""

from __future__ import annotations

import logging

from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn

from mmscope.engine.hooks.observing import ObservingHook, StepLosses
from mmscope.evaluation import EarlyExitMetric
from mmscope.models.heads.confidence import ALL_CONFIDENCES
from mmscope.models.layers import Record, check_weight
from mmscope.models.losses import (
    TrainsCoarseStage,
    check_kl_direction,
    coarse_fine_kl,
    exit_head_losses,
    feature_consistency,
    ignored_label,
    stage_outputs,
)
from mmscope.models.scoping import (
    HostGate,
    StageOutputs,
    TwoStage,
    attach_gate,
    check_temperature,
    check_threshold,
    find_backbone,
)
from mmscope.models.scoping.host_path import check_path
from mmscope.models.scoping.wrapping import running_statistics
from mmscope.registry import HOOKS


class CoarseStageLosses(StepLosses):
    """Completes the losses of a plain host, which knows of one stage.

    Args:
        feature_weight (float): Weight of the feature consistency.
        kl_weight (float): Weight of the divergence of class predictions.
        kl_direction (str): See :func:`coarse_fine_kl`.

    Raises:
        ValueError: If one of them is invalid.
    """

    def __init__(
        self, feature_weight: float, kl_weight: float, kl_direction: str
    ) -> None:
        super().__init__()
        self.feature_weight = check_weight('feature_weight', feature_weight)
        self.kl_weight = check_weight('kl_weight', kl_weight)
        self.kl_direction = check_kl_direction(kl_direction)
        # Asked at the first step.
        self._diverges: bool | None = None

    def losses(
        self, model: nn.Module, records: list[Record], data_samples: list
    ) -> dict[str, Tensor]:
        """Compute what trains the coarse stage."""
        outputs = stage_outputs(records)
        losses = exit_head_losses(
            model.backbone, outputs, data_samples, ignored_label(model)
        )
        if outputs.fine_maps:
            consistency = feature_consistency(outputs)
            losses['loss_feature_consistency'] = (
                self.feature_weight * consistency
            )
        elif self._may_diverge(model):
            losses['loss_kl'] = self._divergence(model, outputs)
        return losses

    def _may_diverge(self, model: nn.Module) -> bool:
        if self._diverges is None:
            head = getattr(model, 'head', None)
            brings = head is None or isinstance(head, TrainsCoarseStage)
            self._diverges = not brings and _can_diverge(model)
        return self._diverges

    def _divergence(self, model: nn.Module, outputs: StageOutputs) -> Tensor:
        host = HostGate(model)
        # Batch norm of a neck has seen this batch in the host's own pass.
        with running_statistics(model):
            coarse = host.logits(outputs.coarse_cls)
            fine = host.logits(outputs.fine_cls)
        return self.kl_weight * coarse_fine_kl(coarse, fine, self.kl_direction)


def _can_diverge(model: nn.Module) -> bool:
    """Ask whether a classifier predicts a distribution from either stage.

    Raises:
        ValueError: If it does not, and there is no exit head to train.
    """
    name, alone = type(model.head).__name__, model.backbone.exit_head is None
    remedy = 'train it with backbone.exit_head, or ' if alone else ''
    try:
        host = HostGate(model)
        if host.meaning != 'softmax':
            raise ValueError(
                'Eq. 21 brings distributions over classes together, and '
                f'{name} predicts {host.meaning}: {remedy}use a single-label '
                'head'
            )
        if not alone:
            # Of the others the gate has asked.
            check_path(model.backbone, host)
    except ValueError as error:
        if alone:
            raise
        print_log(
            'the exit head is trained, but nothing trains what '
            f'{name} predicts from the coarse stage (no loss_kl): {error}',
            logger='current',
            level=logging.WARNING,
        )
        return False
    return True


@HOOKS.register_module()
class ConfidenceGateHook(ObservingHook):
    """Let confident images exit, train for it, and count who did.

    In any host it wires the gate and, through an ``EarlyExitMetric`` that it
    adds where the evaluator has none, reports ``early_exit/exit_ratio``,
    ``mean_tokens`` and ``mean_cost`` with the other metrics (log, message
    hub, visualizer). In a plain host, which knows nothing of two stages, it
    also completes the loss dict: with the exit head's losses where there is
    one, and with a feature consistency in a dense host, in a classifier with
    the KL term of Eq. 21 unless its head brings it. Beside an exit head that
    term is left out, with a warning, where the classifier's own head predicts
    no distribution over classes. Our own hosts bring all of theirs.

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
        ValueError: If the threshold, a weight, the kind of confidence, the
            direction or the temperature is invalid.
    """

    def __init__(
        self,
        exit_threshold: float | None = None,
        feature_weight: float = 1.0,
        confidence: str | None = None,
        kl_weight: float = 1.0,
        kl_direction: str = 'pq',
        temperature: float | None = None,
    ) -> None:
        losses = CoarseStageLosses(feature_weight, kl_weight, kl_direction)
        super().__init__(losses, TrainsCoarseStage, EarlyExitMetric)
        self.exit_threshold = check_threshold(exit_threshold)
        if confidence is not None and confidence not in ALL_CONFIDENCES:
            raise ValueError(
                f'confidence must be None or one of {ALL_CONFIDENCES}, got '
                f'{confidence!r}'
            )
        if temperature is not None:
            temperature = check_temperature(temperature)
        self.temperature = temperature
        self.confidence = confidence

    def before_run(self, runner: Runner) -> None:
        """Wire the gate."""
        super().before_run(runner)
        attach_gate(
            runner.model,
            self.exit_threshold,
            self.confidence,
            self.temperature,
        )

    def find_backbone(self, model: nn.Module) -> TwoStage:
        """Find the two-stage backbone of a host model."""
        return find_backbone(model)
