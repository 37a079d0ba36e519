"""DeiT, ViM and MambaScope, alike but for the backbone."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmscope.analysis import SharedCostCounter, StageCosts, closed_form
from mmscope.models import (
    LN2d,
    MambaScope,
    SimpleFPN,
    TokenBackbone,
    VisionMamba,
    attach_gate,
)

NECKS = ('none', 'fpn')
# ImageNet's classes, and ADE20K's for the exit head beside a pyramid.
CLASSES, DENSE_CLASSES = 1000, 150
DEIT, VIM, SCOPE = 'DeiT', 'ViM', 'MambaScope'
# ViM with a token reduction, whichever.
REDUCED = 'reduced ViM'
# Decays, skip weights: float32 whatever the rest is.
STATE_PARAMETERS = ('A_log', 'A_b_log', 'D', 'D_b')


class ClassifierHead(nn.Linear):
    """Linear classifier on the cls token, called as a host's head is."""

    meaning = 'softmax'

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Classify (..., (B, D)) as logits (B, C)."""
        return super().forward(feats[-1])


class BenchmarkModel(nn.Module):
    """A backbone with a classifier's head or a feature pyramid.

    Args:
        backbone (nn.Module): Returns a tuple of cls tokens or maps.
        neck (str): 'none' classifies into 1000 classes; 'fpn' puts a simple
            feature pyramid on the last map, 256 channels, as Figure 6 of
            MambaScope (arXiv:2512.00647) has one. Defaults to 'none'.
    """

    def __init__(self, backbone: nn.Module, neck: str = 'none') -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = self.head = None
        if neck == 'fpn':
            norm = dict(type=f'mmscope.{LN2d.__name__}')
            self.neck = SimpleFPN(backbone.embed_dims, norm_cfg=norm)
        else:
            self.head = ClassifierHead(_vector_dims(backbone), CLASSES)

    def behind(self, feats: tuple[Tensor, ...]) -> object:
        """Run what stands behind the backbone."""
        return self.head(feats) if self.neck is None else self.neck(feats)

    def forward(self, imgs: Tensor) -> object:
        """Map images (B, 3, H, W) to logits (B, 1000), or a pyramid's maps."""
        return self.behind(self.backbone(imgs))


def _vector_dims(backbone: nn.Module) -> int:
    if isinstance(backbone, TokenBackbone):
        return backbone.summary_dims
    return backbone.embed_dims


def why_no_deit() -> str | None:
    """Say why DeiT cannot take part; None if it can."""
    if find_spec('mmpretrain') is None:
        return 'mmpretrain, which has DeiT, is not installed: make setup'
    return None


def build_deit(
    arch: str | dict, resolution: int, neck: str = 'none'
) -> BenchmarkModel:
    """Build mmpretrain's DeiT of a name or dict of sizes, random weights."""
    return BenchmarkModel(
        MODELS.build(
            dict(
                type='mmpretrain.VisionTransformer',
                arch=f'deit-{arch}' if isinstance(arch, str) else arch,
                img_size=resolution,
                out_type=_out_type(neck),
            )
        ),
        neck,
    )


def build_vim(
    arch: str | dict,
    resolution: int,
    neck: str = 'none',
    backend: str = 'auto',
    reduction: dict | None = None,
) -> BenchmarkModel:
    """Build ViM with random weights, and a token reduction if wanted."""
    backbone = VisionMamba(
        arch=arch,
        img_size=resolution,
        out_type=_out_type(neck),
        scan_backend=backend,
        reduction=reduction,
    )
    return BenchmarkModel(backbone, neck)


def build_scope(
    arch: str | dict,
    resolution: int,
    neck: str = 'none',
    backend: str = 'auto',
    refine_ratio: float = 0.8,
) -> BenchmarkModel:
    """Build MambaScope with a gate that has something to judge by."""
    head = dict(type='mmscope.MultiLabelExitHead', num_classes=DENSE_CLASSES)
    backbone = MambaScope(
        arch=arch,
        img_size=resolution,
        out_type=_out_type(neck),
        scan_backend=backend,
        refine_ratio=refine_ratio,
        exit_head=head if neck == 'fpn' else None,
    )
    model = BenchmarkModel(backbone, neck)
    attach_gate(model)
    return model


def _out_type(neck: str) -> str:
    return 'featmap' if neck == 'fpn' else 'cls_token'


def cast(
    model: nn.Module, dtype: torch.dtype, device: torch.device
) -> nn.Module:
    """Move a model in place, and cast all weights but the scan's state."""
    model.to(device=device, dtype=dtype)
    for name, param in model.named_parameters():
        if name.rpartition('.')[2] in STATE_PARAMETERS:
            param.data = param.data.float()
    # Some hosts' train() returns nothing.
    model.eval()
    return model


def model_macs(model: BenchmarkModel, resolution: int) -> StageCosts:
    """Compute the MACs of one image; both scan directions, as they run."""
    shape = (resolution, resolution)
    backbone = model.backbone
    weight = next(model.parameters())
    size = (backbone.summary_dims,)
    if model.neck is not None:
        size = (backbone.embed_dims, *map(backbone.num_cells, shape))
    with torch.no_grad(), SharedCostCounter(model, backbone) as counter:
        model.behind((weight.new_zeros(1, *size),))
    return closed_form(model, shape, counter.total, 'exact')
