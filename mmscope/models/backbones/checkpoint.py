"""Fit a checkpoint's backbone entries to the model that loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmengine.logging import print_log
from torch import Tensor

from mmscope.models.layers import resize_pos_embed, square_grid

if TYPE_CHECKING:
    from mmscope.models.backbones.vim import VisionMamba


def adapt_state_dict(
    backbone: VisionMamba, state_dict: dict[str, Tensor], prefix: str
) -> None:
    """Resize position embeddings in place and refuse foreign checkpoints.

    A ViM checkpoint fits a two-stage backbone: the coarse position
    embedding, if it is missing, is resized from the fine one.

    Args:
        backbone (VisionMamba): The model that loads.
        state_dict (dict[str, Tensor]): All entries; ours start with
            ``prefix``.
        prefix (str): Such as 'backbone.' or ''.

    Raises:
        ValueError: If the entries belong to another model.
    """
    _refuse_foreign(backbone, state_dict, prefix)
    fine, coarse = f'{prefix}pos_embed', f'{prefix}coarse_pos_embed'
    if hasattr(backbone, 'coarse_pos_embed'):
        if coarse not in state_dict and fine in state_dict:
            print_log(
                f'{coarse} is not in the checkpoint: resized from {fine}',
                logger='current',
            )
            state_dict[coarse] = state_dict[fine]
        _resize_entry(state_dict, coarse, backbone.coarse_grid)
    _resize_entry(state_dict, fine, backbone.grid)


def _resize_entry(
    state_dict: dict[str, Tensor], key: str, grid: tuple[int, int]
) -> None:
    value = state_dict.get(key)
    if value is None or value.shape[1] == grid[0] * grid[1] + 1:
        return
    old_grid = square_grid(value.shape[1])
    if old_grid is None:
        raise ValueError(
            f'{key} of the checkpoint has {value.shape[1]} entries, which is '
            'not a square grid and one cls token, and differs from this '
            f"model's grid of {grid[0]} x {grid[1]}: set backbone.img_size to "
            'the size that the checkpoint was trained with'
        )
    print_log(f'{key}: resized from {old_grid} to {grid}', logger='current')
    state_dict[key] = resize_pos_embed(value, old_grid, grid)


def _refuse_foreign(
    backbone: VisionMamba, state_dict: dict[str, Tensor], prefix: str
) -> None:
    name = type(backbone).__name__
    if not state_dict:
        raise ValueError(f'the checkpoint for {name} holds no entries at all')
    if rope := [k for k in state_dict if k.startswith(f'{prefix}rope')]:
        raise ValueError(
            f'the checkpoint uses rotary position embeddings ({rope[0]}), as '
            "ViM's small segmentation and its detection models do; "
            f'{name} has absolute ones and would compute something else'
        )
    own = backbone.state_dict(prefix=prefix)
    if not any(key in state_dict for key in own):
        some = ', '.join(list(state_dict)[:3])
        raise ValueError(
            f'the checkpoint is of another model: no entry is one of {name} '
            f'(expected such as {prefix}layers.0.mixer.in_proj.weight, got '
            f'such as {some}). Convert a released ViM with '
            'tools/model_converters/vim_to_mmscope.py'
        )
    _refuse_other_sizes(backbone, state_dict, own, prefix)


def _refuse_other_sizes(
    backbone: VisionMamba,
    state_dict: dict[str, Tensor],
    own: dict[str, Tensor],
    prefix: str,
) -> None:
    # MMEngine only warns on other shapes and leaves those weights random.
    resizable = (f'{prefix}pos_embed', f'{prefix}coarse_pos_embed')
    differing = [
        f'{key}: {tuple(state_dict[key].shape)}, '
        f'expected {tuple(own[key].shape)}'
        for key in own
        if key in state_dict
        and key not in resizable
        and not key.startswith(f'{prefix}exit_head')
        and state_dict[key].shape != own[key].shape
    ]
    layers = f'{prefix}layers.'
    found = {
        int(k[len(layers) :].split('.')[0])
        for k in state_dict
        if k.startswith(layers)
    }
    if found and len(found) != backbone.num_layers:
        differing.append(
            f'{len(found)} blocks, expected {backbone.num_layers}'
        )
    if differing:
        raise ValueError(
            f'the checkpoint is of another arch than this '
            f'{type(backbone).__name__} (embed_dims {backbone.embed_dims}, '
            f'{backbone.num_layers} layers): {"; ".join(differing[:3])}. Set '
            'backbone.arch to the one of the checkpoint'
        )
