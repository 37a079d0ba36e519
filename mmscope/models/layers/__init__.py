"""Building blocks of Vision Mamba."""

from mmscope.ops import add_residual

from .drop_path import DropPath
from .mixer import BidirectionalMamba, MambaBlock
from .norm import RMSNorm
from .patch_embed import PatchEmbed, pad_to_multiple
from .position import (
    insert_token,
    remove_token,
    resize_pos_embed,
    square_grid,
)

__all__ = [
    'BidirectionalMamba',
    'DropPath',
    'MambaBlock',
    'PatchEmbed',
    'RMSNorm',
    'add_residual',
    'insert_token',
    'pad_to_multiple',
    'remove_token',
    'resize_pos_embed',
    'square_grid',
]
