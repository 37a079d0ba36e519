"""Show which tokens a model keeps or merges, and what it finds.

    python tools/analysis_tools/show_reduction.py CONFIG CKPT
        [--split test|val] [--indices 0 5 9] [--out FILE.png | --out-dir DIR]
    python tools/analysis_tools/show_reduction.py CONFIG CKPT --images a.jpg

For models of all three hosts whose backbone has a reduction. One row an
image, one panel a stage, at most four of them: patches that were pruned are
veiled, patches that were merged share a colour and lone ones stay the photo.
Beside it label map, boxes or class, and the ground truth where it is known.
"""

from __future__ import annotations

from pathlib import Path

from mmscope.cli.picture_arguments import (
    choose_images,
    picture_parser,
    write_pictures,
)
from mmscope.errors import user_errors
from mmscope.evaluation.loading import build_model, open_config
from mmscope.visualization import draw_reductions


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    parser, _ = picture_parser(__doc__, 'reduction')
    args = parser.parse_args(argv)
    # Wrong names in the config surface while model and data are built.
    with user_errors(OSError, ValueError, KeyError, TypeError):
        cfg = open_config(args.config, args.cfg_options)
        model = build_model(cfg, args.checkpoint, args.device)
        dataset, indices = choose_images(cfg, args)
    write_pictures(
        args,
        Path(cfg.work_dir) / 'reduction.png',
        draw_reductions,
        model,
        dataset,
        indices,
    )
