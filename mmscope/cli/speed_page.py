"""Write the tables of a page on speed from the files of measurements.

    python tools/analysis_tools/speed_page.py [--page docs/results/PAGE]
        [--check]

PAGE is speed.md (default), token_reduction_speed.md, many_images.md or gpu.md.
The files lie beside it, and it says how each was measured. Each fills what
stands between two lines such as

    <!-- speed_page ratios: begin -->
    <!-- speed_page ratios: end -->

so that no number is typed by hand. --check changes nothing and fails if the
page is not what the files say.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mmscope.analysis.markers import update_document
from mmscope.benchmark.checkouts import Step, steps_section
from mmscope.benchmark.files import read_json
from mmscope.benchmark.gpu.record import Record
from mmscope.benchmark.gpu.report import page_section
from mmscope.benchmark.grid_report import (
    exits_section,
    grid_section,
    reductions_section,
)
from mmscope.benchmark.grid_rows import Grid
from mmscope.benchmark.growth import GrowthFile, growth_section
from mmscope.benchmark.many_images import PARTS, Part, part_section
from mmscope.benchmark.ratios import RatiosFile, ratios_section
from mmscope.cli.arguments import add_check, tool_parser
from mmscope.errors import UserError, user_errors


class Section(NamedTuple):
    """File beside the page, what it holds, and that as Markdown."""

    file: str
    kind: Any
    write: Callable[[Any], str]


PAGES = {
    'speed.md': {
        'ratios': Section('bench.json', RatiosFile, ratios_section),
        'steps': Section('speed_steps.json', list[Step], steps_section),
        'exits': Section('speed_grid.json', Grid, exits_section),
        'growth': Section('speed_growth.json', GrowthFile, growth_section),
        'grid': Section('speed_grid.json', Grid, grid_section),
        'bfloat16': Section('speed_bf16.json', Grid, grid_section),
    },
    'token_reduction_speed.md': {
        'reductions': Section(
            'token_reduction_speed.json', Grid, reductions_section
        ),
    },
    'many_images.md': {
        part: Section('many_images.json', dict[str, Part], part_section(part))
        for part in PARTS
    },
    'gpu.md': {'gpu': Section('gpu.json', Record, page_section)},
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        '--page', type=Path, default=Path('docs/results/speed.md')
    )
    add_check(parser)
    args = parser.parse_args(arguments)
    if args.page.name not in PAGES:
        parser.error(
            f'--page {args.page} is none that this tool writes: they are '
            f'called {" and ".join(PAGES)}'
        )
    return args


def read(path: Path, kind: Any) -> Any:
    """Read a file of measurements."""
    if kind is Record:
        return Record.read(path)
    return read_json(path, kind, 'benchmark.py, or what else the page names')


def main(arguments: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    with user_errors():
        for name, section in PAGES[args.page.name].items():
            path = args.page.parent / section.file
            if not path.is_file():
                raise UserError(
                    f'{path} does not exist: measure it, see --help'
                )
            text = section.write(read(path, section.kind))
            update_document(args.page, f'speed_page {name}', text, args.check)
