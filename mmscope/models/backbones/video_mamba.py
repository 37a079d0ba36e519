"""VideoMamba's image model."""

from __future__ import annotations

from typing import Any

from mmscope.models.backbones.arguments import ARCHS
from mmscope.models.backbones.vim import VisionMamba
from mmscope.models.layers import SummaryTokens
from mmscope.registry import MODELS


@MODELS.register_module()
class VideoMamba(VisionMamba):
    """VideoMamba for images: cls at the front, directions added up.

    VideoMamba, arXiv:2403.06977. Everything else is :class:`VisionMamba`'s,
    the names and shapes of its weights among it; which of the two a
    checkpoint is of, it says itself.

    Example::

        backbone = dict(type='mmscope.VideoMamba', arch='small')

    Args:
        arch (str | dict): 'tiny', 'small', 'middle', 'base' or a dict of
            sizes. Defaults to 'tiny'.
        summary_position (str): See :class:`VisionMamba`. Defaults to
            'first'.
        average_directions (bool): See :class:`VisionMamba`. Defaults to
            False.
        **vim (Any): Of :class:`VisionMamba`.
    """

    archs = {**ARCHS, 'middle': {'embed_dims': 576, 'num_layers': 32}}
    family = 'VideoMamba'
    released_summary = SummaryTokens('first', 1)

    def __init__(
        self,
        arch: str | dict[str, Any] = 'tiny',
        *,
        summary_position: str = 'first',
        average_directions: bool = False,
        **vim: Any,
    ) -> None:
        super().__init__(
            arch,
            summary_position=summary_position,
            average_directions=average_directions,
            **vim,
        )
