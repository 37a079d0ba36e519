"""When training starts to refine informative regions only."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmscope.models.backbones.weights_info import KEY, WeightsInfo
from mmscope.models.layers import is_number, unwrap_model
from mmscope.models.scoping import CoarseToFine, find_backbone
from mmscope.registry import HOOKS


@HOOKS.register_module()
class InformativeSelectionHook(Hook):
    """Switch informative-region selection on at a point of the training.

    Before it the fine stage sees all fine tokens (MambaScope,
    arXiv:2512.00647, section 5.1: epoch 200 of 300). The state follows from
    the runner's progress alone, so a resumed training has it right, and it
    holds for the validations in between. Checkpoints say it with the weights
    (:class:`WeightsInfo`), and models that load them have it as it was.

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
        ValueError: If ``begin`` is no number, negative or a float >= 1.
    """

    # Behind EMAHook, which puts averaged weights into a checkpoint.
    priority = 'BELOW_NORMAL'

    def __init__(
        self, begin: int | float = 2 / 3, by_epoch: bool = False
    ) -> None:
        fraction = isinstance(begin, float)
        known = is_number(begin) and (fraction or isinstance(begin, int))
        if not known or begin < 0 or (fraction and begin >= 1):
            raise ValueError(
                'begin must be an int >= 0 (iteration or epoch) or a float '
                f'in [0, 1) (fraction of the training), got {begin!r}'
            )
        self.begin = begin
        self.by_epoch = by_epoch
        # 'on', 'off' or 'unknown' of a checkpoint that is not trained on.
        self._saved: str | None = None

    def before_train(self, runner: Runner) -> None:
        """Set the state at the start and after a resume.

        Raises:
            ValueError: If the training never comes to ``begin``.
        """
        self._check_begin(runner)
        self._saved = None
        self._update(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the state for this epoch."""
        self._update(runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set the state for this iteration."""
        self._update(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note what a checkpoint says, for a test."""
        backbone = _find_scope(runner.model)
        state = checkpoint.get('state_dict', checkpoint)
        packed = state.get(_entry(runner.model, backbone))
        info = None if packed is None else WeightsInfo.unpack(packed)
        self._saved = 'unknown'
        if info is not None and info.selection is not None:
            self._saved = _word(info.selection)

    def before_test(self, runner: Runner) -> None:
        """Warn where the test selects otherwise than its checkpoint did."""
        word = _word(_find_scope(runner.model).selection)
        if self._saved not in (None, word):
            runner.logger.warning(
                f'informative-region selection is {word} in this test, and '
                f'{self._saved} in the checkpoint: scores and costs may '
                'differ from those in training'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Say in averaged weights, too, whether selection is on.

        The average is a copy of the model, of which this hook does not know.
        """
        backbone = _find_scope(runner.model)
        name = _entry(runner.model, backbone)
        for part in ('state_dict', 'ema_state_dict'):
            state = checkpoint.get(part, {})
            for key in {name, f'module.{name}'} & set(state):
                state[key] = backbone.get_extra_state()

    def _progress(self, runner: Runner) -> tuple[int, int, float]:
        """How far it is, how far it goes, and where selection begins."""
        now, total = runner.iter, runner.max_iters
        if self.by_epoch:
            now, total = runner.epoch, runner.max_epochs
        begin = self.begin
        if isinstance(begin, float):
            # Of a short trial run at least the last step has selection.
            begin = min(begin * total, total - 1)
        return now, total, begin

    def _check_begin(self, runner: Runner) -> None:
        unit = 'epoch' if self.by_epoch else 'iteration'
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                'InformativeSelectionHook(by_epoch=True) in a training that '
                'counts iterations, where epochs never come: set '
                'by_epoch=False and begin in iterations'
            )
        _, total, begin = self._progress(runner)
        if begin > total - 1:
            raise ValueError(
                f'InformativeSelectionHook(begin={self.begin}) begins at '
                f'{unit} {begin:g}, and this training has {total}, the last '
                f'of them {total - 1}: selection would never be on. Set begin '
                'lower (a float is a fraction of the training), or, to train '
                'without selection, leave the hook out and set '
                'backbone.selection = False'
            )

    def _update(self, runner: Runner) -> None:
        now, total, begin = self._progress(runner)
        backbone = _find_scope(runner.model)
        selection = now >= begin
        if selection != backbone.selection:
            unit = 'epoch' if self.by_epoch else 'iteration'
            runner.logger.info(
                f'informative-region selection {_word(selection)} '
                f'at {unit} {now} of {total}'
            )
        backbone.selection = selection


def _find_scope(model: nn.Module) -> CoarseToFine:
    backbone = find_backbone(model)
    if not isinstance(backbone, CoarseToFine):
        raise ValueError(
            f'{type(backbone).__name__} refines whole images, so there '
            'is no selection to switch: leave InformativeSelectionHook '
            'out of custom_hooks'
        )
    return backbone


def _entry(model: nn.Module, backbone: CoarseToFine) -> str:
    """Name of the entry that says what the weights of a backbone are."""
    modules = unwrap_model(model).named_modules()
    name = next(name for name, module in modules if module is backbone)
    return f'{name}.{KEY}' if name else KEY


def _word(selection: bool) -> str:
    return 'on' if selection else 'off'
