"""Layer-wise learning-rate decay for any backbone that knows its depths."""

from __future__ import annotations

from contextlib import suppress

from torch import nn

from mmscope.engine.optimizers.constructor import OptimWrapperConstructor
from mmscope.models.layers import is_number
from mmscope.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(OptimWrapperConstructor):
    """A smaller learning rate for early blocks.

    A parameter at depth d of n gets ``lr * rate ** (n - 1 - d)``; depths come
    from ``backbone.get_layer_depth``, or that of the backbone inside, as in
    ``ExitOnly``. Everything else is :class:`OptimWrapperConstructor`'s.

    Example::

        optim_wrapper = dict(
            constructor='mmscope.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.9),
        )

    Args:
        optim_wrapper_cfg (dict): Of MMEngine.
        paramwise_cfg (dict | None): Of MMEngine, with ``layer_decay_rate`` in
            (0, 1].

    Raises:
        ValueError: If the rate is missing or outside (0, 1], or the
            optimiser has no ``lr``.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not is_number(rate) or not 0 < rate <= 1:
            raise ValueError(
                'paramwise_cfg needs layer_decay_rate, a number in (0, 1], '
                f'got {rate!r}'
            )
        if self.base_lr is None:
            raise ValueError(
                'layer decay scales the learning rate, and the optimiser has '
                'none: set optim_wrapper.optimizer.lr'
            )
        self.rate = float(rate)

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Fill ``params`` with one group a parameter, then scale their lr.

        Args:
            params (list[dict]): Groups, extended in place.
            module (nn.Module): Model, or a part of it in the recursion.
            prefix (str): Name of that part. Defaults to ''.
            is_dcn_module (int | float | None): MMEngine's. Defaults to None.

        Raises:
            ValueError: If the model's backbone does not tell its depths.
        """
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:
            return
        depths = _find_depths(module)
        names = {id(p): name for name, p in module.named_parameters()}
        for group in params:
            depth, num = depths[names[id(group['params'][0])]]
            scale = self.rate ** (num - 1 - depth)
            group['lr'] = group.get('lr', self.base_lr) * scale


def _find_depths(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Depth of each parameter and number of depths, as a backbone tells."""
    names = [name for name, _ in model.named_parameters()]
    found, prefix, inner = [], '', model
    while (inner := getattr(inner, 'backbone', None)) is not None:
        prefix += 'backbone.'
        found.append(type(inner).__name__)
        # Ours, and some of mmpretrain.
        depth_of = getattr(inner, 'get_layer_depth', None)
        if depth_of is not None:
            # A ResNet-50 knows, a ResNet-18 does not.
            with suppress(NotImplementedError):
                return {name: depth_of(name, prefix) for name in names}
    raise ValueError(
        'layer decay needs a backbone of mmscope that has blocks, or another '
        'one that knows the depth of its parameters (get_layer_depth), got '
        f'{" around ".join(found) or "none"}: use '
        'mmscope.OptimWrapperConstructor'
    )
