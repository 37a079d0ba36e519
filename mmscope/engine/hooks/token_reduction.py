"""Token reductions in ordinary configs: losses and statistics."""

from __future__ import annotations

from mmengine.runner import Runner
from torch import Tensor, nn

from mmscope.engine.hooks.observing import ObservingHook, StepLosses
from mmscope.evaluation import TokenReductionMetric
from mmscope.models import TokenBackbone, find_reduced_backbone
from mmscope.models.layers import Record
from mmscope.models.losses import TrainsReduction, only_record
from mmscope.registry import HOOKS


class ReductionLosses(StepLosses):
    """Adds what the backbone's token reduction trains with."""

    def losses(
        self, model: nn.Module, records: list[Record], data_samples: list
    ) -> dict[str, Tensor]:
        """Ask the reduction."""
        backbone = find_reduced_backbone(model)
        return backbone.reduction.losses(only_record(records))


@HOOKS.register_module()
class TokenReductionHook(ObservingHook):
    """Train a token reduction in a plain host, and count what it saves.

    In training it adds the losses of the backbone's reduction to those of
    ``ImageClassifier``, ``EncoderDecoder``, ``CascadeRCNN`` or any other
    host; DyVM does not train without. A host that brings them, such as
    ``DistilledClassifier``, gets them once. In evaluation it reports, through
    a ``TokenReductionMetric`` that it adds where the evaluator has none,
    ``token_reduction/mean_tokens``, ``mean_directions`` and ``mean_cost``
    with the other metrics.

    Example::

        custom_hooks = [dict(type='mmscope.TokenReductionHook')]
    """

    def __init__(self) -> None:
        super().__init__(
            ReductionLosses(), TrainsReduction, TokenReductionMetric
        )

    def before_run(self, runner: Runner) -> None:
        """Refuse a model that reduces nothing."""
        super().before_run(runner)
        self.find_backbone(runner.model)

    def find_backbone(self, model: nn.Module) -> TokenBackbone:
        """Find the backbone with a reduction."""
        return find_reduced_backbone(model)
