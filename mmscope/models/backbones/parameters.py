"""What the outside asks about a backbone's parameters by their names."""

from __future__ import annotations

from mmengine.model import BaseModule, ModuleList
from torch import nn

from mmscope.models.layers import (
    BidirectionalMamba,
    LayerNorm,
    RMSNorm,
    check_whole,
)


class NamedParameters(BaseModule):
    """Freezing, layer-wise learning rates and weight decay.

    A subclass has ``layers``, and names what embeds images in
    :meth:`embedding_names`.
    """

    layers: ModuleList
    frozen_stages: int

    def embedding_names(self) -> tuple[str, ...]:
        """Names of parameters and modules that embed images."""
        raise NotImplementedError

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.layers)

    def no_decay_names(self) -> set[str]:
        """Names of parameters that weight decay would harm.

        Returns:
            set[str]: Position embeddings, summary tokens, decay rates, skip
            weights, scales of norms; biases are a matter of the optimiser's
            own rule.
        """
        own = dict(self.named_parameters(recurse=False))
        found = {name for name in self.embedding_names() if name in own}
        for prefix, module in self.named_modules():
            if isinstance(module, (BidirectionalMamba, LayerNorm, RMSNorm)):
                found |= {f'{prefix}.{name}' for name in module.no_decay}
                # As torch.nn.utils.parametrize renames them.
                found |= {
                    f'{prefix}.parametrizations.{name}.original'
                    for name in module.no_decay
                }
        return found

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay.

        Args:
            param_name (str): Full name of the parameter.
            prefix (str): What stands before our own names, such as
                'backbone.'. Defaults to ''.

        Returns:
            tuple[int, int]: Depth (0 for embeddings, i + 1 for block i, the
            last one for the rest) and the number of depths.
        """
        num_depths = self.num_layers + 2
        if not param_name.startswith(prefix):
            return num_depths - 1, num_depths
        name = param_name[len(prefix) :]
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, num_depths
        embeds = name.split('.')[0] in self.embedding_names()
        return (0 if embeds else num_depths - 1), num_depths

    def _freeze(self, stages: int) -> None:
        stages = check_whole('frozen_stages', stages, -1)
        if stages > self.num_layers:
            raise ValueError(
                f'frozen_stages must lie in [-1, {self.num_layers}], '
                f'got {stages}'
            )
        self.frozen_stages = stages
        if stages < 0:
            return
        for name in self.embedding_names():
            getattr(self, name).requires_grad_(False)
        for module in self._frozen_modules():
            module.eval().requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        parts = [getattr(self, name) for name in self.embedding_names()]
        modules = [part for part in parts if isinstance(part, nn.Module)]
        return [*modules, *self.layers[: self.frozen_stages]]

    def train(self, mode: bool = True) -> NamedParameters:
        """Set the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self
