"""Weights as the authors of ViM and its kin, and of DeiT, released them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor

from mmscope.models.backbones.checkpoint import RELEASED_SIZE, released_dense
from mmscope.models.layers import SummaryTokens, square_grid

Weights = dict[str, Tensor]
CLS, REGISTERS = 'cls_token', 'pos_embed_cls'
NORM = 'norm_f.weight'
EMBEDDINGS = (
    'pos_embed',
    'patch_embed.proj.weight',
    'patch_embed.proj.bias',
    NORM,
)
BLOCK = (
    'norm.weight',
    'mixer.A_log',
    'mixer.A_b_log',
    'mixer.D',
    'mixer.D_b',
    'mixer.in_proj.weight',
    'mixer.conv1d.weight',
    'mixer.conv1d.bias',
    'mixer.conv1d_b.weight',
    'mixer.conv1d_b.bias',
    'mixer.x_proj.weight',
    'mixer.x_proj_b.weight',
    'mixer.dt_proj.weight',
    'mixer.dt_proj.bias',
    'mixer.dt_proj_b.weight',
    'mixer.dt_proj_b.bias',
    'mixer.out_proj.weight',
)
# What DyVM adds to a block, and to the backbone for each stage.
BLOCK_HEAD = ('mixer.block_head.weight', 'mixer.block_head.bias')
PREDICTORS = 'score_predictors'
PREDICTOR = tuple(
    f'{layer}.{kind}'
    for layer in (
        'in_conv.0',
        'in_conv.1',
        'out_conv.0',
        'out_conv.2',
        'out_conv.4',
    )
    for kind in ('weight', 'bias')
)


# Of Mamba-Reg, where its channels are reduced for the head.
NECK = ('neck.weight', 'norm_neck.weight')
# timm's names of a transformer block, and ours, which are mmpretrain's.
ATTENTION_BLOCK = {
    f'{theirs}.{kind}': f'{ours}.{kind}'
    for theirs, ours in (
        ('norm1', 'ln1'),
        ('attn.qkv', 'attn.qkv'),
        ('attn.proj', 'attn.proj'),
        ('norm2', 'ln2'),
        ('mlp.fc1', 'ffn.layers.0.0'),
        ('mlp.fc2', 'ffn.layers.1'),
    )
    for kind in ('weight', 'bias')
}


def released_names(
    source: Weights,
    outside: Sequence[str],
    block: Sequence[str] = BLOCK,
    is_dyvm: bool = False,
) -> list[str]:
    """Find the names of all backbone weights.

    Args:
        source (dict[str, Tensor]): Weights by released name, and others.
        outside (Sequence[str]): Names of those that no block has.
        block (Sequence[str]): Names in a block. Defaults to ViM's.
        is_dyvm (bool): Whether they are of a DyVM. Defaults to False.

    Returns:
        list[str]: Those of the backbone.

    Raises:
        ValueError: If some are missing, or it is a model that computes
            something else.
    """
    _refuse_variants(source, outside, is_dyvm)
    names = [*outside]
    block = (*block, *BLOCK_HEAD) if is_dyvm else block
    names += _numbered(source, 'layers', block)
    if is_dyvm:
        names += _numbered(source, PREDICTORS, PREDICTOR)
    missing = [name for name in names if name not in source]
    if missing:
        raise ValueError(
            f'not the model that --source says: {len(missing)} of '
            f'{len(names)} expected weights are missing, such as '
            f'{missing[0]}; the file has such as '
            f'{", ".join(sorted(source)[:3])}'
        )
    return names


def rename_vit(source: Weights) -> Weights:
    """Give the weights of a DeiT, which has timm's names, ours.

    Args:
        source (dict[str, Tensor]): Weights by released name.

    Returns:
        dict[str, Tensor]: The same by the names of :class:`TokenViT`.

    Raises:
        ValueError: If it is distilled, with a second token.
    """
    if 'dist_token' in source:
        raise ValueError(
            'the checkpoint is of a distilled DeiT (dist_token), whose head '
            'reads two tokens: use the one without distillation'
        )
    found = {}
    for key, value in source.items():
        match = re.fullmatch(r'blocks\.(\d+)\.(.+)', key)
        if match and match[2] in ATTENTION_BLOCK:
            key = f'layers.{match[1]}.{ATTENTION_BLOCK[match[2]]}'
        found[re.sub(r'^norm\.', 'norm_f.', key)] = value
    return found


def released_arch(source: Weights) -> dict[str, int]:
    """Read an ``arch`` off the shapes.

    Args:
        source (dict[str, Tensor]): Weights by our name, complete.

    Returns:
        dict[str, int]: For the constructor of the backbone. No shape shows
        the heads of a ViT: those of DeiT have 64 channels.
    """
    sizes = {
        'embed_dims': source['pos_embed'].shape[-1],
        'num_layers': _count(source, 'layers'),
    }
    if (inside := 'layers.0.ffn.layers.0.0.weight') in source:
        return {**sizes, 'feedforward_channels': len(source[inside])}
    mixer = 'layers.0.mixer.'
    inner, rank = source[f'{mixer}dt_proj.weight'].shape
    return {
        **sizes,
        'd_state': source[f'{mixer}A_log'].shape[1],
        'd_conv': source[f'{mixer}conv1d.weight'].shape[-1],
        'expand': inner // sizes['embed_dims'],
        'dt_rank': rank,
    }


def released_grid(
    entries: int,
    summary: SummaryTokens,
    patch_size: int,
    patch_stride: int,
    img_size: int | None,
) -> tuple[int, int]:
    """Tell which grid a position table is made for.

    The shape of a table does not say at which stride, so what could be
    another model's is refused: the released models of stride 8 where the
    stride is 16, and at any other stride what is not for the released 224
    pixels. ``img_size`` says that other sizes are meant.

    Args:
        entries (int): Rows of the table.
        summary (SummaryTokens): Those of the family.
        patch_size (int): Pixels.
        patch_stride (int): Pixels that the model has between patches.
        img_size (int | None): Side that the table is wanted for; None for
            its own.

    Returns:
        tuple[int, int]: Rows and columns.

    Raises:
        ValueError: If it does not fit.
    """
    grid = square_grid(entries, summary)
    if grid is None:
        raise ValueError(
            f'pos_embed has {entries} entries, expected a square grid and '
            f'{summary.count} cls token (197 for {RELEASED_SIZE} pixels)'
        )
    has = f'pos_embed has {grid[0]} x {grid[1]} cells'
    wanted = _side(img_size or RELEASED_SIZE, patch_size, patch_stride)
    if patch_stride == patch_size and grid == released_dense(patch_size):
        dense = patch_size // 2
        if wanted != grid[0]:
            raise ValueError(
                f'{has}, as {RELEASED_SIZE} pixels have at stride {dense}, '
                f'not {patch_size}: set --patch-stride {dense}. If they are '
                f'of {grid[0] * patch_size} pixels: --img-size '
                f'{grid[0] * patch_size}'
            )
    elif patch_stride != patch_size and img_size is None and wanted != grid[0]:
        raise ValueError(
            f'{has}, and {RELEASED_SIZE} pixels at --patch-stride '
            f'{patch_stride} have {wanted} x {wanted}: it is of another '
            f'stride or size. --img-size {RELEASED_SIZE} resizes it, as ViM '
            'starts its models of stride 8 from those of 16'
        )
    return grid


def _side(img_size: int, patch_size: int, patch_stride: int) -> int:
    return -(-max(img_size - patch_size, 0) // patch_stride) + 1


def _count(source: Weights, prefix: str) -> int:
    """Count what is numbered under a name; 1 where nothing is."""
    found = (re.match(rf'{prefix}\.(\d+)\.', key) for key in source)
    return max((int(match[1]) for match in found if match), default=0) + 1


def _numbered(source: Weights, prefix: str, names: Sequence[str]) -> list[str]:
    return [
        f'{prefix}.{i}.{name}'
        for i in range(_count(source, prefix))
        for name in names
    ]


def _refuse_variants(
    source: Weights, outside: Sequence[str], is_dyvm: bool
) -> None:
    if not is_dyvm and any(key.startswith(PREDICTORS) for key in source):
        raise ValueError(
            f'the checkpoint is of a DyVM ({PREDICTORS}), whose weights are '
            'trained on pruned sequences: --source dyvm, dyvm_videomamba, '
            'dyvm_mamba_reg or dyvm_seg'
        )
    if REGISTERS in source and REGISTERS not in outside:
        raise ValueError(
            f'the checkpoint is of a Mamba-Reg ({REGISTERS}): --source '
            'mamba_reg or dyvm_mamba_reg'
        )
    rope = [key for key in source if key.startswith('rope.')]
    if rope and CLS in outside:
        raise ValueError(
            f'the checkpoint has rotary position embeddings ({rope[0]}) and '
            'a cls token, which shifts them by one patch in their code: '
            "mmscope has those of ViM's segmentation and detection, --source "
            'vim_seg, vim_det'
        )
    if 'cls_token_head' in source:
        raise ValueError(
            'the checkpoint has two cls tokens (cls_token_head), mmscope has '
            "one. Use ViM's midclstok weights"
        )
    if 'temporal_pos_embedding' in source:
        raise ValueError(
            "the checkpoint is VideoMamba's for videos "
            '(temporal_pos_embedding), mmscope has the one for images. Use '
            'its ImageNet weights'
        )
    if any(key.startswith('backbone.') for key in source):
        raise ValueError(
            'names begin with "backbone.": this file is converted already, '
            'or the checkpoint of a host of ours, and models load it as it '
            "is. ViM's own of segmentation and detection: --source vim_seg, "
            'vim_det'
        )
