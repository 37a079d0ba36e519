"""When training starts to refine informative regions only."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmscope.models.scoping import CoarseToFine, find_backbone
from mmscope.registry import HOOKS


@HOOKS.register_module()
class InformativeSelectionHook(Hook):
    """Switch informative-region selection on at a point of the training.

    Before it the fine stage sees all fine tokens (MambaScope,
    arXiv:2512.00647, section 5.1: epoch 200 of 300). The state follows from
    the runner's progress alone, so a resumed training has it right, and it
    holds for the validations in between.

    Example::

        custom_hooks = [
            dict(type='mmscope.InformativeSelectionHook', begin=2 / 3),
        ]

    Args:
        begin (int | float): First iteration (or epoch) with selection; a
            float in [0, 1) is a fraction of the whole training. Defaults to
            2 / 3.
        by_epoch (bool): Count epochs instead of iterations. Defaults to
            False.

    Raises:
        ValueError: If ``begin`` is negative or a float >= 1.
    """

    priority = 'NORMAL'

    def __init__(
        self, begin: int | float = 2 / 3, by_epoch: bool = False
    ) -> None:
        fraction = isinstance(begin, float)
        if begin < 0 or (fraction and begin >= 1):
            raise ValueError(
                'begin must be an int >= 0 (iteration or epoch) or a float '
                f'in [0, 1) (fraction of the training), got {begin!r}'
            )
        self.begin = begin
        self.by_epoch = by_epoch

    def before_train(self, runner: Runner) -> None:
        """Set the state at the start and after a resume."""
        self._update(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the state for this epoch."""
        self._update(runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set the state for this iteration."""
        self._update(runner)

    def _update(self, runner: Runner) -> None:
        now, total = (
            (runner.epoch, runner.max_epochs)
            if self.by_epoch
            else (runner.iter, runner.max_iters)
        )
        begin = self.begin
        if isinstance(begin, float):
            begin *= total
        backbone = find_backbone(runner.model)
        if not isinstance(backbone, CoarseToFine):
            raise ValueError(
                f'{type(backbone).__name__} refines whole images, so there '
                'is no selection to switch: leave InformativeSelectionHook '
                'out of custom_hooks'
            )
        selection = now >= begin
        if selection != backbone.selection:
            unit = 'epoch' if self.by_epoch else 'iteration'
            runner.logger.info(
                f'informative-region selection {"on" if selection else "off"} '
                f'at {unit} {now} of {total}'
            )
        backbone.selection = selection
