"""Building blocks of token backbones; torch and mmengine only."""

from mmscope.ops import add_residual

from .attention import AttentionBlock, GlobalAttention
from .drop_path import DropPath
from .initial_values import is_overwritten
from .macs import block_macs, scan_cost
from .mixer import BidirectionalMamba, MambaBlock
from .norm import LayerNorm, RMSNorm, add_and_norm
from .patch_embed import PatchEmbed, pad_to_multiple, pad_to_size
from .plain import is_plain
from .position import PositionTable, resize_pos_embed, square_grid
from .ranking import ranking
from .record import (
    Observed,
    Record,
    find_observed,
    is_observed,
    observe,
    unwrap_model,
)
from .rotary import RotarySteps, rotary_angles, rotate
from .settings import (
    check_rate,
    check_weight,
    check_whole,
    holding,
    in_evaluation,
    is_number,
    one_thread,
)
from .steps import NO_STEPS, PLAIN, Mixed, MixerPlan, Steps
from .summary_tokens import SummaryTokens, places_between
from .token_scores import (
    GATED_METRICS,
    SCORE_METRICS,
    accumulate_scores,
    token_scores,
)
from .token_sequence import TokenSequence, gather_tokens

__all__ = [
    'GATED_METRICS',
    'NO_STEPS',
    'PLAIN',
    'SCORE_METRICS',
    'AttentionBlock',
    'BidirectionalMamba',
    'DropPath',
    'GlobalAttention',
    'LayerNorm',
    'MambaBlock',
    'Mixed',
    'MixerPlan',
    'Observed',
    'PatchEmbed',
    'PositionTable',
    'RMSNorm',
    'Record',
    'RotarySteps',
    'Steps',
    'SummaryTokens',
    'TokenSequence',
    'accumulate_scores',
    'add_and_norm',
    'add_residual',
    'block_macs',
    'find_observed',
    'gather_tokens',
    'check_rate',
    'check_weight',
    'check_whole',
    'holding',
    'in_evaluation',
    'is_number',
    'one_thread',
    'is_observed',
    'is_overwritten',
    'is_plain',
    'observe',
    'pad_to_multiple',
    'pad_to_size',
    'places_between',
    'ranking',
    'resize_pos_embed',
    'rotary_angles',
    'rotate',
    'scan_cost',
    'square_grid',
    'token_scores',
    'unwrap_model',
]
