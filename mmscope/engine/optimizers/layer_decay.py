"""Layer-wise learning-rate decay for any backbone that knows its depths."""

from __future__ import annotations

from torch import nn

from mmscope.engine.optimizers.constructor import OptimWrapperConstructor
from mmscope.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(OptimWrapperConstructor):
    """A smaller learning rate for early blocks.

    A parameter at depth d of n gets ``lr * rate ** (n - 1 - d)``; depths come
    from ``backbone.get_layer_depth``. Everything else is
    :class:`OptimWrapperConstructor`'s.

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
        ValueError: If the rate is missing or outside (0, 1].
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, (int, float)) or not 0.0 < rate <= 1.0:
            raise ValueError(
                'paramwise_cfg needs layer_decay_rate, a number in (0, 1], '
                f'got {rate!r}'
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
        backbone = getattr(module, 'backbone', None)
        # Ours, and the transformers of mmpretrain.
        depth_of = getattr(backbone, 'get_layer_depth', None)
        if depth_of is None:
            raise ValueError(
                'layer decay needs a backbone of mmscope, or another one '
                'that knows the depth of its parameters (get_layer_depth), '
                f'got {type(backbone).__name__}'
            )
        names = {id(p): name for name, p in module.named_parameters()}
        for group in params:
            name = names[id(group['params'][0])]
            depth, num = depth_of(name, 'backbone.')
            scale = self.rate ** (num - 1 - depth)
            group['lr'] = group.get('lr', self.base_lr) * scale
