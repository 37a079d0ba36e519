"""Write what was measured on a GPU into the page on GPUs.

    python tools/analysis_tools/gpu_page.py [--page docs/results/gpu.md]
        [--json docs/results/gpu.json] [--check]

The file is that of tools/benchmark.py --gpu-first --json; without one the
page says that nothing was measured. The tables stand between

    <!-- gpu_first measurements: begin -->
    <!-- gpu_first measurements: end -->

so that no number is typed by hand. --check changes nothing and fails if the
page is not what the file says.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmscope.analysis.markers import update_document
from mmscope.benchmark.gpu.report import page_section
from mmscope.cli.arguments import add_check, tool_parser
from mmscope.errors import user_errors

TOOL = 'gpu_first measurements'


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        '--page', type=Path, default=Path('docs/results/gpu.md')
    )
    parser.add_argument(
        '--json', type=Path, help='measurements (default: beside the page)'
    )
    add_check(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    with user_errors():
        path = args.json or args.page.with_suffix('.json')
        update_document(args.page, TOOL, page_section(path), args.check)
