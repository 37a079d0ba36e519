"""Hold claims about runs against their sweeps, image by image.

    python tools/analysis_tools/paired_test.py CLAIMS.json SWEEP.json ...
        [--json JUDGED.json] [--insert MD]
    python tools/analysis_tools/paired_test.py --judged JUDGED.json
        --insert MD [--check]

CLAIMS.json is a list of {"claim", "better", "worse", "margin"}, see
mmscope/evaluation/claims.py; sides name sweeps by their file stems. The
judged claims are small enough to keep beside a report; the second form
writes the report from them, or with --check fails if it is out of date.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmscope.analysis.markers import update_document
from mmscope.errors import UserError, user_errors
from mmscope.evaluation import SweepResult
from mmscope.evaluation.paired_test import claims_table, judge


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('claims', nargs='?', help='claims to judge')
    parser.add_argument('sweeps', nargs='*', help='JSON of sweep_threshold.py')
    parser.add_argument('--json', help='write the judged claims here')
    parser.add_argument('--judged', help='claims judged before')
    parser.add_argument('--insert', metavar='MD', help='document to write in')
    parser.add_argument(
        '--check',
        action='store_true',
        help='fail unless --insert is already up to date',
    )
    args = parser.parse_args(argv)
    if bool(args.claims) == bool(args.judged):
        parser.error('give either claims with their sweeps, or --judged')
    if args.check and not args.insert:
        parser.error('--check needs --insert')
    return args


def judged_claims(args: argparse.Namespace) -> list[dict]:
    """Judge claims, or read those that were.

    Args:
        args (argparse.Namespace): Command line.

    Returns:
        list[dict]: Of :func:`mmscope.evaluation.paired_test.judge`.

    Raises:
        UserError: If two sweeps have one name or a file is no list.
        ValueError: If a claim does not fit its sweeps.
    """
    claims = json.loads(Path(args.judged or args.claims).read_text())
    if not isinstance(claims, list):
        raise UserError(
            f'{args.judged or args.claims} holds no list of claims'
        )
    if args.judged:
        return claims
    names = [Path(path).stem for path in args.sweeps]
    if len(set(names)) < len(names):
        raise UserError(f'sweeps need different file names, got {names}')
    sweeps = {
        name: SweepResult.read(path).to_dict()
        for name, path in zip(names, args.sweeps, strict=True)
    }
    return [judge(claim, sweeps) for claim in claims]


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with user_errors(ValueError, OSError, KeyError, TypeError):
        judged = judged_claims(args)
        if args.json:
            Path(args.json).write_text(json.dumps(judged, indent=1) + '\n')
        table = claims_table(judged)
        if args.insert:
            update_document(args.insert, 'paired_test', table, args.check)
    if not args.insert:
        print(table)
