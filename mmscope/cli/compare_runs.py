"""Turn sweeps of several models into a Markdown report and a picture.

    python tools/analysis_tools/compare_runs.py vim.json mambascope.json
        [--insert docs/results/camvid.md] [--picture docs/results/camvid.png]
        [--check]

The files come from sweep_threshold.py. Without --insert the report is
printed; with it, it replaces what stands between the lines

    <!-- compare_runs: begin -->
    <!-- compare_runs: end -->

so that no number is typed by hand. --check changes nothing and fails if the
text there is not what the files say. The report links its files: without
sweeps on the command line, those that the document already links are read.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from pathlib import Path

# Hosts print while they are imported; the report alone goes to stdout.
with contextlib.redirect_stdout(sys.stderr):
    from mmscope.analysis.markers import markers, update_document
    from mmscope.cli.arguments import add_check, tool_parser
    from mmscope.errors import UserError, user_errors
    from mmscope.evaluation.report import Comparison
    from mmscope.evaluation.sweep_result import SweepResult
    from mmscope.visualization import curve_figure, save

TOOL = 'compare_runs'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    add = parser.add_argument
    text = 'JSON of sweep_threshold.py (default: those that --insert links)'
    add('sweeps', nargs='*', help=text)
    add('--names', nargs='+', help='names of the models, one a file')
    add('--insert', metavar='MD', help='Markdown file with the two markers')
    add('--picture', metavar='PNG', help='curve picture')
    add_check(parser)
    args = parser.parse_args(argv)
    if args.names and len(args.names) != len(args.sweeps):
        parser.error(
            f'--names gives {len(args.names)} names for {len(args.sweeps)} '
            'files'
        )
    if not args.insert and (args.check or not args.sweeps):
        parser.error('sweeps to print, or --insert with or without --check')
    return args


def linked_sweeps(text: str, document: Path) -> dict[str, Path]:
    """Find the files by model that the report in a document links."""
    begin, end = markers(TOOL)
    report = text.partition(begin)[2].partition(end)[0]
    found = re.findall(r'\[([^]]+)\]\(([^)]+\.json)\)', report)
    if not found:
        raise UserError(
            f'{document} links no sweep between its markers; name the JSON '
            'files on the command line'
        )
    return {name: document.parent / path for name, path in found}


def link(sweeps: dict[str, Path], document: Path) -> str:
    """Write where the numbers come from, for a document."""
    links = (
        f'[{name}]({Path(os.path.relpath(path, document.parent)).as_posix()})'
        for name, path in sweeps.items()
    )
    return f'Sweeps: {", ".join(links)}.'


def named_sweeps(args: argparse.Namespace, text: str) -> dict[str, Path]:
    """List the files to compare by the name of their model."""
    if not args.sweeps:
        return linked_sweeps(text, Path(args.insert))
    files = [Path(path) for path in args.sweeps]
    names = args.names or [
        SweepResult.read(path).meta.name or path.stem for path in files
    ]
    if len(set(names)) < len(files):
        raise UserError(f'names must differ, got {names}; use --names')
    return dict(zip(names, files, strict=True))


def run(args: argparse.Namespace) -> str | None:
    """Compare; give the report where it goes into no document."""
    document = Path(args.insert) if args.insert else None
    if document is not None and not document.is_file():
        raise UserError(f'--insert {document} does not exist')
    old = document.read_text() if document else ''
    sweeps = named_sweeps(args, old)
    runs = {name: SweepResult.read(path) for name, path in sweeps.items()}
    report = Comparison(runs).markdown()
    if args.picture and not args.check:
        save(curve_figure(runs), args.picture)
    if document is None:
        return report
    linked = f'{link(sweeps, document)}\n\n{report}'
    update_document(document, TOOL, linked, args.check)
    return None


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with user_errors(ValueError, OSError):
        report = run(args)
    if report is not None:
        print(report)
