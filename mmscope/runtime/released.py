"""Which released checkpoints there are, and what each becomes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmscope.models import (
    MambaReg,
    MambaRegScope,
    MambaScope,
    TokenBackbone,
    TokenViT,
    VideoMamba,
    VideoMambaScope,
    VisionMamba,
    ViTScope,
)
from mmscope.models.backbones.released import (
    ATTENTION_BLOCK,
    BLOCK,
    CLS,
    EMBEDDINGS,
    NECK,
    NORM,
    REGISTERS,
    rename_vit,
)
from mmscope.models.layers import SummaryTokens

Weights = dict[str, Tensor]
# Tables of angles, which models compute.
ROPE = ('rope.freqs_cos', 'rope.freqs_sin')
# Dimensions of the weights that sizes are read off.
DIMENSIONS = {
    'pos_embed': 3,
    'patch_embed.proj.weight': 4,
    CLS: 3,
    'layers.0.mixer.A_log': 2,
    'layers.0.mixer.conv1d.weight': 3,
    'layers.0.mixer.dt_proj.weight': 2,
    'layers.0.ffn.layers.0.0.weight': 2,
}


class Source(NamedTuple):
    """Checkpoints of one origin.

    Attributes:
        plain (type): Backbone that they become.
        scope (type | None): Scope on it. Defaults to None.
        outside (tuple[str, ...]): Weights that no block has.
        block (tuple[str, ...]): Weights of each block.
        is_dyvm (bool): Whether there are those of a DyVM, too.
        prefix (str): What stands before the names of the backbone.
        has_timm_names (bool): Whether names are timm's.
        has_norm (bool): Whether there is a final norm; ViM's detection has
            deleted it.
        averages (bool): Whether the directions were averaged. ViM's code
            added them up by default until its 0fe80c3 (August 2024), which
            is behind its detection and its rotary segmentation.
    """

    plain: type[TokenBackbone]
    scope: type[TokenBackbone] | None = None
    outside: tuple[str, ...] = (CLS, *EMBEDDINGS)
    block: tuple[str, ...] = BLOCK
    is_dyvm: bool = False
    prefix: str = ''
    has_timm_names: bool = False
    has_norm: bool = True
    averages: bool = True

    @property
    def has_summary(self) -> bool:
        """Whether there is a cls token, or registers."""
        return CLS in self.outside

    @property
    def summary(self) -> SummaryTokens:
        """Summary tokens among the positions."""
        if self.has_summary:
            return self.plain.released_summary
        return SummaryTokens('none', 0)

    def read(self, content: Weights) -> tuple[Weights, list[str]]:
        """Find the backbone's weights.

        Args:
            content (dict[str, Tensor]): As the file holds them.

        Returns:
            tuple[dict[str, Tensor], list[str]]: Weights by our name, and
            the names in the file that are outside the backbone.

        Raises:
            ValueError: If sizes cannot be read off the weights.
        """
        # As DistributedDataParallel saved it.
        content = {k.removeprefix('module.'): v for k, v in content.items()}
        others = [k for k in content if not k.startswith(self.prefix)]
        if len(others) == len(content):
            # Somebody took the backbone out.
            others = []
        found = {
            name.removeprefix(self.prefix): value
            for name, value in content.items()
            if name not in others
        }
        if self.has_timm_names:
            found = rename_vit(found)
        _check_dimensions(found)
        if not self.has_norm and 'pos_embed' in found:
            # Unused, with last_norm=False.
            found[NORM] = torch.ones(found['pos_embed'].shape[-1])
        return found, others

    def names(self, weights: Weights) -> tuple[str, ...]:
        """Name the weights that no block has, and must be there."""
        if REGISTERS in self.outside and NECK[0] in weights:
            return (*self.outside, *NECK)
        return self.outside

    def options(self, weights: Weights) -> dict[str, object]:
        """Tell what the constructor takes beyond sizes."""
        found: dict[str, object] = {}
        if not self.has_summary:
            found.update(summary_position='none', out_type='featmap')
        if ROPE[0] in weights:
            found.update(rope=True)
        if ROPE[0] in weights or not self.averages:
            found.update(average_directions=False)
        if REGISTERS in self.outside:
            found.update(num_registers=weights[CLS].shape[1])
        return found


def _check_dimensions(weights: Weights) -> None:
    for name, number in DIMENSIONS.items():
        if name in weights and weights[name].ndim != number:
            raise ValueError(
                f'{name} has the shape {tuple(weights[name].shape)}, expected '
                f'{number} dimensions: the file is damaged or of another model'
            )


def for_vitdet(state: Weights, grid: tuple[int, int]) -> Weights:
    """Turn a converted ViT into mmpretrain's ``ViTSAM``, for ViTDet.

    Args:
        state (dict[str, Tensor]): Of a :class:`TokenViT`, under
            ``backbone.``.
        grid (tuple[int, int]): Of its position table, (h, w).

    Returns:
        dict[str, Tensor]: Without cls token, final norm and head; positions
        are (1, h, w, D).
    """
    patches, _ = TokenViT.released_summary.split(state['backbone.pos_embed'])
    found = {
        key.replace('patch_embed.proj.', 'patch_embed.projection.'): value
        for key, value in state.items()
        if key.startswith(('backbone.layers.', 'backbone.patch_embed.'))
    }
    return {**found, 'backbone.pos_embed': patches.unflatten(1, grid)}


WITH_REGISTERS = (CLS, REGISTERS, *EMBEDDINGS)
SOURCES = {
    'vim': Source(VisionMamba, MambaScope),
    'vim_seg': Source(VisionMamba, outside=EMBEDDINGS, prefix='backbone.'),
    'vim_det': Source(
        VisionMamba,
        outside=EMBEDDINGS,
        prefix='backbone.net.',
        has_norm=False,
        averages=False,
    ),
    'videomamba': Source(VideoMamba, VideoMambaScope),
    'mamba_reg': Source(MambaReg, MambaRegScope, WITH_REGISTERS),
    'dyvm': Source(VisionMamba, is_dyvm=True),
    'dyvm_videomamba': Source(VideoMamba, is_dyvm=True),
    'dyvm_mamba_reg': Source(MambaReg, outside=WITH_REGISTERS, is_dyvm=True),
    'dyvm_seg': Source(
        VisionMamba, outside=EMBEDDINGS, is_dyvm=True, prefix='backbone.'
    ),
    'vit': Source(
        TokenViT,
        ViTScope,
        (CLS, *EMBEDDINGS, 'norm_f.bias'),
        tuple(ATTENTION_BLOCK.values()),
        has_timm_names=True,
    ),
}
