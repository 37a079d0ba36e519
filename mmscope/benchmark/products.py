"""The floor: what a ViM's matrix products alone take."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmscope.benchmark.models import BenchmarkModel
from mmscope.evaluation.interleaved_timing import Run


@dataclass(frozen=True)
class Product:
    """One linear layer, or the patch convolution, on all tokens of an image.

    ``shape`` is its input's: (tokens, in), or (C, H, W).
    """

    weight: Tensor
    bias: Tensor | None
    shape: tuple[int, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        rows = self.shape[0]
        if self.weight.ndim == 4:
            height, width = self.weight.shape[-2:]
            rows = self.shape[1] // height * (self.shape[2] // width)
        return rows * self.weight.numel()

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        if self.weight.ndim == 4:
            stride = self.weight.shape[-2:]
            return F.conv2d(x, self.weight, self.bias, stride=stride)
        return F.linear(x, self.weight, self.bias)


def vim_products(model: BenchmarkModel, resolution: int) -> list[Product]:
    """List the matrix products of one forward of ViM, in its order.

    The depthwise convolutions and the scan are none.
    """
    vim = model.backbone
    tokens = math.prod(vim.grid_of((resolution, resolution)))
    tokens += vim.summary_tokens.count
    patches = vim.patch_embed.proj
    image = (vim.in_channels, resolution, resolution)
    products = [Product(patches.weight, patches.bias, image)]
    for block in vim.layers:
        mixer = block.mixer
        layers = [
            mixer.in_proj,
            mixer.x_proj,
            mixer.dt_proj,
            mixer.x_proj_b,
            mixer.dt_proj_b,
            mixer.out_proj,
        ]
        # dt_proj's bias is added by the scan.
        products += [
            Product(layer.weight, None, (tokens, layer.in_features))
            for layer in layers
        ]
    head = model.head
    if head is not None:
        products.append(Product(head.weight, head.bias, (1, head.in_features)))
    return products


def products_run(products: list[Product], batch: int) -> Run:
    """Run matrix products on inputs that those of equal shape share."""
    inputs: dict[tuple[int, ...], Tensor] = {}
    for product in products:
        if product.shape not in inputs:
            weight = product.weight
            inputs[product.shape] = torch.randn(
                batch, *product.shape, device=weight.device
            ).to(weight.dtype)

    def run() -> None:
        with torch.no_grad():
            for product in products:
                product(inputs[product.shape])

    return run
