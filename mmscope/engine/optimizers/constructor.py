"""MMEngine's constructor, for models that know what must not decay."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmscope.models.backbones import TokenBackbone
from mmscope.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Leave weight decay off where a backbone says that it would harm.

    MMEngine's ``norm_decay_mult`` knows PyTorch's own norms alone, and no
    rule of names knows decay rates or position embeddings of a backbone to
    come; so the backbone is asked (``no_decay_names``). A ``decay_mult`` of
    ``custom_keys`` that fits a parameter wins. Everything else is MMEngine's.

    Example::

        optim_wrapper = dict(
            constructor='mmscope.OptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
        )

    Args:
        optim_wrapper_cfg (dict): Of MMEngine.
        paramwise_cfg (dict | None): Of MMEngine. Defaults to None.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        # MMEngine makes groups only where some option is given; without one
        # it takes shared parameters once.
        options = paramwise_cfg or {'bypass_duplicate': True}
        super().__init__(optim_wrapper_cfg, options)

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Fill ``params`` with one group a parameter.

        Args:
            params (list[dict]): Groups, extended in place.
            module (nn.Module): Model, or a part of it in the recursion.
            prefix (str): Name of that part. Defaults to ''.
            is_dcn_module (int | float | None): MMEngine's. Defaults to None.
        """
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:
            return
        named = {id(p): name for name, p in module.named_parameters()}
        spared = no_decay_names(module)
        for group in params:
            name = named[id(group['params'][0])]
            if name in spared and not self._decides_itself(name):
                group['weight_decay'] = 0.0

    def _decides_itself(self, name: str) -> bool:
        """Whether ``custom_keys`` has a decay for it; the longest key wins."""
        custom = self.paramwise_cfg.get('custom_keys', {})
        # As MMEngine does: a key may begin with the dot before a name.
        fitting = [key for key in custom if key in f'.{name}']
        if not fitting:
            return False
        longest = max(sorted(fitting), key=len)
        return 'decay_mult' in custom[longest]


def no_decay_names(model: nn.Module) -> set[str]:
    """Ask every backbone in a model what must not decay.

    Args:
        model (nn.Module): Host model.

    Returns:
        set[str]: Full names of parameters.
    """
    return {
        f'{prefix}.{name}' if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, TokenBackbone)
        for name in module.no_decay_names()
    }
