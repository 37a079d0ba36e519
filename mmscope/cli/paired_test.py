"""Test hypotheses about runs on their sweeps, image by image.

    python tools/analysis_tools/paired_test.py HYPOTHESES.json SWEEP.json ...
        [--json TESTED.json] [--insert MD [--section NAME]]
    python tools/analysis_tools/paired_test.py --tested TESTED.json
        --insert MD [--section NAME] [--check]

HYPOTHESES.json is a list of {"claim", "better", "worse", "margin", "seeds"},
see mmscope/evaluation/paired_test.py; sides name sweeps by their file stems.
The results are small enough to keep beside a report; the second form writes
the report from them, or with --check fails if it is out of date. A document
with several tables has lines such as <!-- paired_test NAME: begin --> for
each.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import msgspec

from mmscope.analysis.markers import update_document
from mmscope.cli.arguments import add_check, tool_parser
from mmscope.errors import UserError, user_errors
from mmscope.evaluation import SweepResult
from mmscope.evaluation.paired_test import (
    Hypothesis,
    PairedTest,
    format_tests,
    paired_test,
)
from mmscope.whole_files import write_whole

Entry = TypeVar('Entry', Hypothesis, PairedTest)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('hypotheses', nargs='?', help='hypotheses to test')
    parser.add_argument('sweeps', nargs='*', help='JSON of sweep_threshold.py')
    parser.add_argument('--json', help='write the results here')
    parser.add_argument('--tested', help='results of before')
    parser.add_argument('--insert', metavar='MD', help='document to write in')
    text = 'which of several tables in that document'
    parser.add_argument('--section', metavar='NAME', help=text)
    add_check(parser)
    args = parser.parse_args(argv)
    if bool(args.hypotheses) == bool(args.tested):
        parser.error('give either hypotheses with their sweeps, or --tested')
    if (args.check or args.section) and not args.insert:
        parser.error('--check and --section need --insert')
    return args


def run_tests(args: argparse.Namespace) -> list[PairedTest]:
    """Test hypotheses, or read the results of before.

    Raises:
        UserError: If two sweeps have one name, or a file holds something
            else, whose place is named.
        ValueError: If a hypothesis does not fit its sweeps.
    """
    if args.tested:
        return _read(args.tested, PairedTest)
    hypotheses = _read(args.hypotheses, Hypothesis)
    names = [Path(path).stem for path in args.sweeps]
    if len(set(names)) < len(names):
        raise UserError(f'sweeps need different file names, got {names}')
    sweeps = dict(zip(names, map(SweepResult.read, args.sweeps), strict=True))
    return [paired_test(hypothesis, sweeps) for hypothesis in hypotheses]


def _read(file: str, kind: type[Entry]) -> list[Entry]:
    try:
        return msgspec.json.decode(Path(file).read_bytes(), type=list[kind])
    except msgspec.MsgspecError as error:
        raise UserError(f'{file}: {error}') from error


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with user_errors(ValueError, OSError):
        tests = run_tests(args)
        if args.json:
            text = json.dumps([asdict(test) for test in tests], indent=1)
            write_whole(args.json, text + '\n')
        table = format_tests(tests)
        if args.insert:
            place = f'paired_test {args.section or ""}'.rstrip()
            update_document(args.insert, place, table, args.check)
    if not args.insert:
        print(table)
