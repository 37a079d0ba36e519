"""Fit a checkpoint's backbone entries to the model that loads it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mmengine.logging import print_log
from torch import Tensor

from mmscope.models.backbones.embedding import POSITIONS
from mmscope.models.backbones.foreign_weights import (
    State,
    refuse_foreign,
    refuse_other_mathematics,
    refuse_other_patches,
    refuse_other_sizes,
)
from mmscope.models.backbones.weights_info import KEY, WeightsInfo
from mmscope.models.layers import (
    PositionTable,
    resize_pos_embed,
    square_grid,
)

if TYPE_CHECKING:
    from mmscope.models.backbones.token_backbone import TokenBackbone

# Mamba-Reg's: the positions of the registers, and what narrows them.
REGISTERS = 'pos_embed_cls'
NARROWING = ('neck.', 'norm_neck.')
# Side in pixels that the released models are made for.
RELEASED_SIZE = 224


def adapt_state_dict(
    backbone: TokenBackbone, state_dict: State, prefix: str
) -> None:
    """Resize position tables in place and refuse foreign checkpoints.

    Weights that say what they are (see :class:`WeightsInfo`) are resized
    from their own grid, or refused where they mean something else. For those
    that do not say it the grid of a table is guessed where it is square.

    Args:
        backbone (TokenBackbone): The model that loads.
        state_dict (dict[str, Tensor]): All entries; ours start with
            ``prefix``.
        prefix (str): Such as 'backbone.' or ''.

    Raises:
        ValueError: If the entries belong to another model.
    """
    own = backbone.describe()
    refuse_foreign(backbone, state_dict, prefix)
    refuse_other_patches(backbone, state_dict, prefix)
    info = None
    packed = state_dict.get(prefix + KEY)
    # Nothing can be read on the meta device.
    if packed is not None and not getattr(packed, 'is_meta', False):
        info = WeightsInfo.unpack(packed)
        refuse_other_mathematics(info, own)
    # A strict load wants the entry, and the model keeps its own.
    state_dict[prefix + KEY] = own.pack()
    state_dict.update(_fitted_tables(backbone, state_dict, prefix, info))
    if not own.summary.count:
        _drop_summary(state_dict, prefix)
    refuse_other_sizes(backbone, state_dict, prefix, info)
    if info is not None:
        _restore_selection(backbone, info)


def _drop_summary(state_dict: State, prefix: str) -> None:
    """Take out what a model without summary tokens has no place for."""
    state_dict.pop(f'{prefix}cls_token', None)
    # Where there are no registers, a neck is somebody else's.
    if state_dict.pop(prefix + REGISTERS, None) is None:
        return
    narrowing = tuple(prefix + name for name in NARROWING)
    for key in [key for key in state_dict if key.startswith(narrowing)]:
        del state_dict[key]


def _restore_selection(backbone: TokenBackbone, info: WeightsInfo) -> None:
    """Let a scope select regions as it did when the weights were saved."""
    if info.selection in (None, backbone.selection) or (
        backbone.selection is None
    ):
        return
    word = 'on' if info.selection else 'off'
    _say(
        f'informative-region selection is {word}, as when these weights were '
        f'saved; to have it otherwise: backbone.selection = '
        f'{not info.selection} after loading, or InformativeSelectionHook',
        logging.WARNING,
    )
    backbone.selection = info.selection


def _fitted_tables(
    backbone: TokenBackbone,
    state_dict: State,
    prefix: str,
    info: WeightsInfo | None,
) -> State:
    """Resize all tables; one that is missing starts from the full one."""
    tables, found = backbone.position_tables(), {}
    # Registers have positions of their own.
    has_cls = (
        f'{prefix}cls_token' in state_dict
        and prefix + REGISTERS not in state_dict
    )
    for name, own in tables.items():
        source = name if prefix + name in state_dict else POSITIONS
        value = state_dict.get(prefix + source)
        if value is None:
            continue
        if source != name:
            _say(f'{prefix}{name} is not in the checkpoint: made of {source}')
        origin = _origin(info, source, value)
        if origin is None:
            entries = value.shape[1]
            summary = tables[source].summary
            if not summary.count and has_cls:
                summary = backbone.released_summary
            wanted = PositionTable(tables[source].grid, summary)
            origin = _guess(backbone, prefix, source, entries, wanted)
        found[prefix + name] = _fit(prefix + name, value, origin, own)
    return found


def _origin(
    info: WeightsInfo | None, name: str, value: Tensor
) -> PositionTable | None:
    """What the checkpoint says that a table was made for."""
    known = None if info is None else info.tables.get(name)
    if known is None or known.num_entries == value.shape[1]:
        return known
    # Somebody has put in another table by hand.
    _say(
        f'{name} has {value.shape[1]} entries, not the {known.num_entries} '
        'of the grid that the checkpoint names'
    )
    return None


def _fit(
    key: str, value: Tensor, origin: PositionTable, own: PositionTable
) -> Tensor:
    if not own.summary.count:
        value, _ = origin.summary.split(value)
    if origin.grid != own.grid:
        _say(f'{key}: resized from {origin.grid} to {own.grid}')
    return resize_pos_embed(value, origin.grid, own.grid, own.summary)


def _guess(
    backbone: TokenBackbone,
    prefix: str,
    name: str,
    entries: int,
    own: PositionTable,
) -> PositionTable:
    """Guess what a table was made for whose checkpoint does not say it."""
    square = square_grid(entries, own.summary)
    # Two stages round the grid up to whole regions, one does not.
    height, width = map(backbone.num_cells, backbone.img_size)
    for grid in (own.grid, (height, width)):
        table = PositionTable(grid, own.summary)
        if table.num_entries == entries:
            if square not in (None, grid):
                _refuse_doubtful(prefix, name, grid, square)
            return table
    if square is not None:
        _refuse_dense(backbone, prefix, name, square)
        return PositionTable(square, own.summary)
    raise ValueError(
        f'{prefix}{name} of the checkpoint has {entries} entries, which is '
        f'not a square grid and {own.summary.count} summary token(s), and '
        f"differs from this model's grid of {own.grid[0]} x {own.grid[1]}: "
        'set backbone.img_size to the size that the checkpoint was trained '
        'with'
    )


def _refuse_doubtful(
    prefix: str, name: str, own: tuple[int, int], square: tuple[int, int]
) -> None:
    raise ValueError(
        f'{prefix}{name} of the checkpoint has {own[0] * own[1]} cells and '
        f'does not say whether they are {own[0]} x {own[1]}, as in this '
        f"model, or {square[0]} x {square[1]}. If they are the model's: "
        f"state_dict['{prefix}{KEY}'] = backbone.get_extra_state() before "
        'loading. Else load it into a model of square img_size, and save that'
    )


def _refuse_dense(
    backbone: TokenBackbone, prefix: str, name: str, square: tuple[int, int]
) -> None:
    """Refuse ViM's released tables of stride 8 where the stride is 16."""
    patch = backbone.patch_size
    if (
        name != POSITIONS
        or backbone.patch_stride != patch
        or square != released_dense(patch)
    ):
        return
    pixels = square[0] * patch
    raise ValueError(
        f'{prefix}{name} of the checkpoint has {square[0]} x {square[1]} '
        f'cells, as {RELEASED_SIZE} pixels have at stride {patch // 2}, and '
        f'this model has patch_stride={patch}: set patch_stride={patch // 2}. '
        f'If it was trained with {pixels} pixels at stride {patch}, build '
        f"that model (img_size={pixels}) and state_dict['{prefix}{KEY}'] = "
        'that.get_extra_state() before loading'
    )


def released_dense(patch_size: int) -> tuple[int, int]:
    """Grid of ViM's released models whose patches overlap by half."""
    side = (RELEASED_SIZE - patch_size) // max(patch_size // 2, 1) + 1
    return side, side


def _say(text: str, level: int = logging.INFO) -> None:
    print_log(text, logger='current', level=level)
