"""Turn sweeps of several models into a Markdown report and a picture.

    python tools/analysis_tools/compare_runs.py vim.json mambascope.json
        [--insert docs/results/camvid.md] [--picture docs/results/camvid.png]
        [--check]

The files come from sweep_threshold.py. Without --insert the report is
printed; with it, it replaces what stands between the lines

    <!-- compare_runs: begin -->
    <!-- compare_runs: end -->

so that no number is typed by hand. --check changes nothing and fails if the
text there is not what the files say.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

# Hosts print while they are imported; the report alone goes to stdout.
with contextlib.redirect_stdout(sys.stderr):
    from mmscope.apis import UserError, user_errors
    from mmscope.evaluation.report import comparison
    from mmscope.evaluation.sweep import SweepResult
    from mmscope.visualization import curve_figure, save

BEGIN = '<!-- compare_runs: begin -->'
END = '<!-- compare_runs: end -->'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'sweeps', nargs='+', help='JSON files of sweep_threshold.py'
    )
    parser.add_argument(
        '--names', nargs='+', help='names of the models, one a file'
    )
    parser.add_argument(
        '--insert', metavar='MD', help='Markdown file with the two markers'
    )
    parser.add_argument('--picture', metavar='PNG', help='curve picture')
    parser.add_argument(
        '--check',
        action='store_true',
        help='fail unless --insert is already up to date',
    )
    args = parser.parse_args(argv)
    if args.names and len(args.names) != len(args.sweeps):
        parser.error(
            f'--names gives {len(args.names)} names for {len(args.sweeps)} '
            'files'
        )
    if args.check and not args.insert:
        parser.error('--check needs --insert')
    return args


def insert(text: str, report: str, path: str) -> str:
    """Put a report between the markers of a document.

    Args:
        text (str): The document.
        report (str): Markdown.
        path (str): Its file, for messages.

    Returns:
        str: The new document.

    Raises:
        UserError: If the markers are not there once each, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise UserError(f'{path} needs one line {BEGIN} and one line {END}')
    before, rest = text.split(BEGIN)
    if END not in rest:
        raise UserError(f'{path}: {BEGIN} must stand before {END}')
    after = rest.split(END)[1]
    return f'{before}{BEGIN}\n\n{report}\n\n{END}{after}'


def run(args: argparse.Namespace) -> str | None:
    """Compare, and write what is asked for.

    Args:
        args (argparse.Namespace): Command line.

    Returns:
        str | None: The report, None where it went into a document.

    Raises:
        UserError: If a file is at fault, or the document is out of date.
    """
    results = [SweepResult.read(path).to_dict() for path in args.sweeps]
    names = args.names or [
        result['meta'].get('name', Path(path).stem)
        for result, path in zip(results, args.sweeps, strict=True)
    ]
    report = comparison(results, names)
    if args.picture and not args.check:
        save(curve_figure(results, names), args.picture)
    if not args.insert:
        return report
    document = Path(args.insert)
    if not document.is_file():
        raise UserError(f'--insert {document} does not exist')
    old = document.read_text()
    new = insert(old, report, args.insert)
    if args.check and new != old:
        raise UserError(
            f'{document} differs from {", ".join(args.sweeps)}; run this '
            'command without --check'
        )
    document.write_text(new)
    return None


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with user_errors(ValueError, OSError):
        report = run(args)
    if report is not None:
        print(report)


if __name__ == '__main__':
    main()
