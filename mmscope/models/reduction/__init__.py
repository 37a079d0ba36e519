"""Token reductions: what shortens the sequence between blocks."""

from .token_reduction import TokenReduction, reduces_tokens

__all__ = ['TokenReduction', 'reduces_tokens']
