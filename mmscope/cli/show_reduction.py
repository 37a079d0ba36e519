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

from mmscope.cli.picture_arguments import picture_parser, show
from mmscope.runtime import ending_cleanly
from mmscope.visualization import draw_reductions


@ending_cleanly()
def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    parser, _ = picture_parser(__doc__, 'reduction')
    show(parser.parse_args(argv), 'reduction', draw_reductions)
