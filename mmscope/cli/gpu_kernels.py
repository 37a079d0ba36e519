"""Write what the Triton kernels cost a GPU, which need not be there.

    python tools/analysis_tools/gpu_kernels.py [--count] [--check]
        [--counts docs/results/gpu_kernels.json]

--count compiles the kernels of ViM-S and MambaScope-S for compute capability
9.0 and writes their instructions into the file of counts (some minutes on two
cores). Without it, docs/results/gpu_kernels.md and gpu.md beside the file are
written from it. --check changes nothing and fails if a page is not what the
file says.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmscope.analysis.markers import update_document
from mmscope.benchmark.counted.page import kernels_section, predictions_section
from mmscope.benchmark.counted.predictions import COUNTS, read_counts
from mmscope.benchmark.files import write_json
from mmscope.benchmark.setting import commit
from mmscope.cli.arguments import add_check, tool_parser
from mmscope.errors import UserError, user_errors

SECTIONS = {
    'counts': ('gpu_kernels.md', kernels_section),
    'predictions': ('gpu.md', predictions_section),
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('--counts', type=Path, default=COUNTS)
    parser.add_argument('--count', action='store_true', help='compile first')
    add_check(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    with user_errors():
        if args.count:
            from mmscope.benchmark.counted.cases import case_counts

            write_json(args.counts, case_counts(commit()))
        if not args.counts.is_file():
            raise UserError(f'{args.counts} does not exist: see --help')
        counts = read_counts(args.counts)
        for section, (page, write) in SECTIONS.items():
            path, tool = args.counts.parent / page, f'gpu_kernels {section}'
            update_document(path, tool, write(counts), args.check)
