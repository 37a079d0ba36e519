"""A page in the browser: an image in; importance, regions, exit, cost out.

    mmscope page [MODEL] [--port 7860]

MODEL is what ``mmscope.from_pretrained`` takes: a folder, a checkpoint of
tools/train.py, or the model that comes with the package. Needs gradio:
``pip install 'mmscope[page]'``. The page listens on this machine alone.
"""

from __future__ import annotations

from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from mmscope.cli.arguments import tool_parser
from mmscope.cli.first_look import MODEL, rendered_pictures
from mmscope.errors import UserError, user_errors
from mmscope.evaluation.image_costs import image_costs
from mmscope.inference import from_pretrained
from mmscope.models import (
    CoarseToFine,
    attach_gate,
    is_two_stage,
    observe,
)
from mmscope.visualization import ImageFiles, predict_views, scope_figure

EXAMPLES = 8


def look(
    model: nn.Module, path: str | None, threshold: float
) -> tuple[Figure | None, str]:
    """Show what was important and refined in an image, and what that cost."""
    if path is None:
        return None, 'Choose an image.'
    backbone = attach_gate(model, threshold)
    others = ['detail'] if isinstance(backbone, CoarseToFine) else []
    dataset = ImageFiles([path], model.cfg, model.dataset_meta)
    with observe(model) as records:
        views = predict_views(model, dataset, [0], others)
    ((costs,),) = image_costs(backbone, records[:1], 0.0)
    macs = costs.exited if views[0].exited else costs.full
    share = f'{macs / costs.full:.0%} of both looks'
    text = f'{views[0].verdict()}; {macs / 1e6:.1f} MMACs, {share}'
    return scope_figure(views, dataset.metainfo['classes']), text


def examples(model: nn.Module, folder: str) -> list[str]:
    """Render pictures that the page offers, as PNG files."""
    dataset, files = rendered_pictures(model, EXAMPLES).dataset, []
    for index in range(EXAMPLES):
        info = dataset.get_data_info(index)
        files.append(f'{folder}/{info["img_path"]}')
        rgb = np.ascontiguousarray(info['img'][..., ::-1])
        Image.fromarray(rgb).save(files[-1])
    return files


def build_page(model: nn.Module, pictures: list[str]) -> Any:
    """Lay out the page.

    Raises:
        UserError: If gradio is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            "the page needs gradio: pip install 'mmscope[page]'"
        ) from error
    with gradio.Blocks(title='mmscope') as page:
        gradio.Markdown('Who is sure after the coarse look, exits.')
        image = gradio.Image(type='filepath', label='image')
        slider = gradio.Slider(0, 1.01, 0.8, label='exit threshold')
        text, plot = gradio.Markdown(), gradio.Plot(label='two looks')
        gradio.on(
            [image.change, slider.release],
            partial(look, model),
            [image, slider],
            [plot, text],
            api_name='look',
        )
        if pictures:
            gradio.Examples(pictures, image)
    return page


def main(argv: list[str] | None = None) -> None:
    """Serve the page until it is interrupted."""
    parser = tool_parser(__doc__)
    parser.add_argument('model', nargs='?', default=MODEL)
    parser.add_argument('--port', type=int, default=7860)
    args = parser.parse_args(argv)
    with TemporaryDirectory() as folder:
        with user_errors():
            model = from_pretrained(args.model)
            if not is_two_stage(model):
                raise UserError(f'{args.model} does not look twice')
            shown = examples(model, folder) if args.model == MODEL else []
            page = build_page(model, shown)
        page.launch(server_name='127.0.0.1', server_port=args.port)
