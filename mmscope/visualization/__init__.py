"""Pictures: what was refined, kept or merged; accuracy against cost."""

from mmscope.visualization.curves import curve_figure
from mmscope.visualization.gallery import exit_gallery
from mmscope.visualization.image_files import ImageFiles, class_meta
from mmscope.visualization.pictures import (
    draw_exit_gallery,
    draw_reductions,
    draw_scopes,
)
from mmscope.visualization.predict import (
    evenly_by,
    predict_views,
    spread_by_confidence,
)
from mmscope.visualization.predict_reduction import predict_reductions
from mmscope.visualization.reduction import reduction_figure
from mmscope.visualization.scope import scope_figure
from mmscope.visualization.style import save
from mmscope.visualization.views import (
    Detections,
    ImageClasses,
    ReductionView,
    ScopeView,
    StageView,
)

__all__ = [
    'Detections',
    'ImageClasses',
    'ImageFiles',
    'ReductionView',
    'ScopeView',
    'StageView',
    'class_meta',
    'curve_figure',
    'draw_exit_gallery',
    'draw_reductions',
    'draw_scopes',
    'evenly_by',
    'exit_gallery',
    'predict_reductions',
    'predict_views',
    'reduction_figure',
    'save',
    'scope_figure',
    'spread_by_confidence',
]
