"""MACs counted where they are spent: the modules outside the backbone."""

from __future__ import annotations

from torch import Tensor, nn

Counted = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


class SharedCostCounter:
    """Counts the convolutions and linear layers outside a backbone.

    Neck and heads do not depend on the early exit, but on what the host does
    with them: sliding windows and test-time augmentation run them several
    times an image. So they are counted as they run. Forward hooks on
    ``nn.Conv2d``, ``nn.ConvTranspose2d``, ``nn.Linear`` and their subclasses
    (mmcv's wrappers among them) add up MACs until :meth:`reset`; a ``with``
    takes them off again.

    Not counted: norms, activations, pooling, interpolation, deformable
    convolutions, and products written as functions (``matmul``, ``einsum``,
    ``F.linear``). mmseg's UperNet and FCN heads have none of the latter.

    Args:
        model (nn.Module): The whole model.
        backbone (nn.Module): The part of it that is not counted.
    """

    def __init__(self, model: nn.Module, backbone: nn.Module) -> None:
        inside = set(map(id, backbone.modules()))
        self.total = 0
        self._handles = [
            module.register_forward_hook(self._add)
            for module in model.modules()
            if isinstance(module, Counted) and id(module) not in inside
        ]

    def _add(
        self, module: Counted, inputs: tuple[Tensor, ...], output: Tensor
    ) -> None:
        self.total += layer_macs(module, inputs[0], output)

    def reset(self) -> None:
        """Start again from zero."""
        self.total = 0

    def per_image(self, num_images: int) -> float:
        """Share what was counted since the last reset: MACs an image.

        Of images, not of windows or views. Raises ValueError without any.
        """
        if num_images < 1:
            raise ValueError(f'num_images is at least 1, got {num_images}')
        return self.total / num_images

    def __enter__(self) -> SharedCostCounter:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Take the hooks off the model; the count stays."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def layer_macs(module: Counted, inputs: Tensor, output: Tensor) -> int:
    """Count the MACs of one call for the whole batch, without biases."""
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    height, width = module.kernel_size
    if isinstance(module, nn.ConvTranspose2d):
        # Each input value is spread over a kernel in each output channel.
        fan = module.out_channels // module.groups
        return inputs.numel() * fan * height * width
    fan = module.in_channels // module.groups
    return output.numel() * fan * height * width
