"""Build mamba-ssm's selective_scan_cuda alone, for the card at hand.

    python tools/misc/build_selective_scan.py FOLDER --source ARCHIVE
    PYTHONPATH=FOLDER python tools/benchmark.py --gpu-first --json FILE

It needs nvcc of torch's CUDA version, ninja and a few minutes on all cores.
docs/gpu_first_minute.md has the command that downloads the archive. Nothing of
mmscope needs it: it is the rival that the benchmark compares with.
"""

from __future__ import annotations

import argparse

from mmscope.benchmark.gpu.build_rival import PACKAGE, build
from mmscope.cli.arguments import positive, tool_parser
from mmscope.errors import user_errors


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('folder', help='gets the module; put on PYTHONPATH')
    parser.add_argument(
        '--source',
        metavar='PATH',
        required=True,
        help=f'archive or folder of {PACKAGE}',
    )
    parser.add_argument(
        '--capability', help='such as 9.0 (default: that of the card here)'
    )
    parser.add_argument(
        '--jobs', type=positive, help='compilers at once (default: all cores)'
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    with user_errors():
        folder = build(args.folder, args.source, args.capability, args.jobs)
    print(f'built; use it with PYTHONPATH={folder}')
