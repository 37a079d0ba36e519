"""Write the tables of a page on speed from the files of measurements.

    python tools/analysis_tools/speed_page.py [--page docs/results/speed.md]
        [--check]
    python tools/analysis_tools/speed_page.py
        --page docs/results/token_reduction_speed.md [--check]
    python tools/analysis_tools/speed_page.py
        --page docs/results/many_images.md [--check]

The files lie beside the page, which says how each was measured. Each fills
what stands between two lines such as

    <!-- speed_page ratios: begin -->
    <!-- speed_page ratios: end -->

so that no number is typed by hand. --check changes nothing and fails if the
page is not what the files say.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmscope.analysis.markers import update_document
from mmscope.benchmark.many_images_page import section as many_images_section
from mmscope.benchmark.page import (
    exits_section,
    grid_section,
    growth_section,
    ratios_section,
    reductions_section,
    steps_section,
)
from mmscope.errors import UserError, user_errors

TOOL = 'speed_page'
# Section to file and writer, by the name of the page.
PAGES = {
    'speed.md': {
        'ratios': ('bench.json', ratios_section),
        'steps': ('speed_steps.json', steps_section),
        'exits': ('speed_grid.json', exits_section),
        'growth': ('speed_growth.json', growth_section),
        'grid': ('speed_grid.json', grid_section),
        'bfloat16': ('speed_bf16.json', grid_section),
    },
    'token_reduction_speed.md': {
        'reductions': ('token_reduction_speed.json', reductions_section),
    },
    'many_images.md': {
        part: ('many_images.json', many_images_section(part))
        for part in ('streams', 'memory', 'kills', 'load')
    },
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--page', type=Path, default=Path('docs/results/speed.md')
    )
    parser.add_argument(
        '--check', action='store_true', help='fail if the page is out of date'
    )
    args = parser.parse_args(arguments)
    if args.page.name not in PAGES:
        parser.error(
            f'--page {args.page} is none that this tool writes: they are '
            f'called {" and ".join(PAGES)}'
        )
    return args


def main(arguments: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    with user_errors():
        for section, (name, write) in PAGES[args.page.name].items():
            path = args.page.parent / name
            if not path.is_file():
                raise UserError(
                    f'{path} does not exist: measure it, see --help'
                )
            report = write(json.loads(path.read_text(encoding='utf-8')))
            tool = f'{TOOL} {section}'
            update_document(args.page, tool, report, args.check)
