"""Pictures: what was refined, who exits, accuracy against cost."""

from mmscope.visualization.curves import curve_figure
from mmscope.visualization.predict import (
    draw_exit_gallery,
    draw_scope_pictures,
    predict_views,
)
from mmscope.visualization.scope import (
    ScopeView,
    exit_gallery,
    scope_figure,
)
from mmscope.visualization.style import save

__all__ = [
    'ScopeView',
    'curve_figure',
    'draw_exit_gallery',
    'draw_scope_pictures',
    'exit_gallery',
    'predict_views',
    'save',
    'scope_figure',
]
