"""Print the paper's tables with our numbers beside them.

    python tools/analysis_tools/reproduce_tables.py [--tables table1 ...]
        [--results NAME=SWEEP.json ...] [--results-dir DIR]
        [--json | --insert docs/results/tables.md [--block NAME] [--check]]

Costs and parameters are computed on the spot and need no data. Accuracies
come from the JSON of sweep_threshold.py, 'not trained' stands where there is
none. NAME is the stem of a config in configs/imagenet, configs/miniimagenet,
configs/ade20k or configs/coco, such as mambascope_s; figure1_14x14 is
mambascope_s with --cfg-options model.backbone.refine_ratio=1.0. In DIR
(default: docs/results/imagenet) that is NAME.json or NAME/sweep.json. With
--insert the tables replace what stands between the lines

    <!-- reproduce_tables: begin -->
    <!-- reproduce_tables: end -->

and --check fails if what stands there is something else. --block NAME names
another place of the document, "reproduce_tables NAME", which has no
introduction.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path

# Hosts print while they are imported; the tables alone go to stdout.
with contextlib.redirect_stdout(sys.stderr):
    import torch
    from torch import nn

    from mmscope.analysis.markers import update_document
    from mmscope.analysis.paper import TABLES
    from mmscope.errors import UserError, user_errors
    from mmscope.evaluation.loading import build_model, open_config
    from mmscope.evaluation.paper_tables import Section, build
    from mmscope.evaluation.sweep_result import SweepResult
    from mmscope.evaluation.tables import format_table, to_records

ROOT = Path(__file__).resolve().parents[2]
HOSTS = {'ade20k': 'mmseg', 'coco': 'mmdet'}
RESULTS = ROOT / 'docs/results/imagenet'
INTRO = (
    'Paper: MambaScope, arXiv:2512.00647v2. Costs are of one image, in GMACs '
    "of the paper's convention, which it calls FLOPs: multiply-adds of "
    'convolutions and linear layers plus the operations of the scan, one '
    'scan direction counted. The *derived* exit ratio is neither printed '
    'nor measured: it is what makes coarse + (1 - ratio) x (fine + reuse) '
    'the printed cost, ± the rounding of that cost.'
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--tables',
        nargs='+',
        choices=list(TABLES),
        default=list(TABLES),
        metavar='NAME',
        help=f'of {", ".join(TABLES)} (default: all)',
    )
    parser.add_argument(
        '--results',
        nargs='+',
        default=[],
        metavar='NAME=FILE',
        help='JSON of sweep_threshold.py by the stem of the config',
    )
    parser.add_argument(
        '--results-dir',
        metavar='DIR',
        help='folder of such files (default: docs/results/imagenet)',
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        '--json', action='store_true', help='print numbers as JSON'
    )
    output.add_argument(
        '--insert', metavar='MD', help='Markdown file with the two markers'
    )
    parser.add_argument(
        '--block', metavar='NAME', help='place in the document of --insert'
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='fail unless --insert is already up to date',
    )
    args = parser.parse_args(argv)
    for name in ('check', 'block'):
        if getattr(args, name) and not args.insert:
            parser.error(f'--{name} needs --insert')
    return args


def known_runs() -> dict[str, str]:
    """List the runs that a table has a place for, with their folder."""
    return {
        row.key: table.configs
        for table in TABLES.values()
        for row in table.rows
        if row.key is not None
    }


def find_sweeps(args: argparse.Namespace) -> dict[str, Path]:
    """Find the result files by the name of their run.

    Args:
        args (argparse.Namespace): Command line.

    Returns:
        dict[str, Path]: Files; those named on the command line win.

    Raises:
        UserError: If a folder does not exist or a name has no table.
    """
    known = known_runs()
    folder = Path(args.results_dir or RESULTS)
    if args.results_dir and not folder.is_dir():
        raise UserError(f'--results-dir {folder} is no folder')
    found = {}
    for key in sorted(known):
        for path in (folder / f'{key}.json', folder / key / 'sweep.json'):
            if path.is_file():
                found.setdefault(key, path)
    for entry in args.results:
        key, _, path = entry.partition('=')
        if not path or key not in known:
            raise UserError(
                f'--results takes NAME=FILE with NAME one of '
                f'{", ".join(sorted(known))}; got {entry!r}'
            )
        found[key] = Path(path)
    return found


def read_sweep(key: str, path: Path) -> SweepResult:
    """Read a result file that stands for a run.

    Args:
        key (str): Name of the run.
        path (Path): JSON file.

    Returns:
        SweepResult: The sweep.

    Raises:
        UserError: If it says that it is of another data set.
    """
    sweep = SweepResult.read(path)
    runs = known_runs()
    config = Path(sweep.meta.get('config', ''))
    if config.parent.name in {*runs.values()} - {runs[key]}:
        raise UserError(
            f'{path} is of {config}, the tables want '
            f'configs/{runs[key]} for {key}'
        )
    return sweep


def open_model(folder: str, stem: str) -> nn.Module | None:
    """Build a config's model without memory for its weights.

    Args:
        folder (str): In configs/.
        stem (str): Of a file in it.

    Returns:
        nn.Module | None: On the ``meta`` device; None without its host.
    """
    if find_spec(HOSTS[folder]) is None:
        return None
    cfg = open_config(str(ROOT / f'configs/{folder}/{stem}.py'))
    # Shapes alone: no memory, no initialisation.
    with torch.device('meta'):
        return build_model(cfg, device='meta')


def markdown(
    sections: list[Section],
    sweeps: dict[str, SweepResult],
    intro: bool = True,
) -> str:
    """Format everything for people.

    Args:
        sections (list[Section]): Tables.
        sweeps (dict[str, SweepResult]): Where accuracies come from.
        intro (bool): Whether to say what the numbers are. Defaults to True.

    Returns:
        str: Markdown.
    """
    parts = [INTRO] if intro else []
    for section in sections:
        table = section.table
        parts.append(f'**{table.source}. {table.title}**')
        parts.append(format_table(section.frame, section.columns))
        if table.notes:
            parts.append('\n'.join(f'- {note}' for note in table.notes))
    parts.append(sources(sweeps))
    return '\n\n'.join(parts)


def sources(sweeps: dict[str, SweepResult]) -> str:
    """Say which runs our accuracies come from."""
    if not sweeps:
        return 'No model of these tables was trained here.'
    lines = [
        f'- `{key}`: {sweep.meta.get("config", "unknown config")}, '
        f'{sweep.num_images} images of split {sweep.meta.get("split")!r}'
        for key, sweep in sweeps.items()
    ]
    return 'Our accuracies are those of:\n\n' + '\n'.join(lines)


def to_json(sections: dict[str, Section]) -> str:
    """Format everything for programs."""
    return json.dumps(
        {
            name: {
                'source': section.table.source,
                'title': section.table.title,
                'rows': to_records(section.frame),
                'notes': section.table.notes,
            }
            for name, section in sections.items()
        },
        indent=1,
        allow_nan=False,
    )


def run(args: argparse.Namespace) -> str | None:
    """Build the tables and bring them where they are wanted.

    Args:
        args (argparse.Namespace): Command line.

    Returns:
        str | None: What to print, None where it went into a document.

    Raises:
        UserError: If a result file is at fault.
        ValueError: If the document is at fault or out of date.
    """
    sweeps = {k: read_sweep(k, v) for k, v in find_sweeps(args).items()}
    sections = {name: build(name, sweeps, open_model) for name in args.tables}
    if args.json:
        return to_json(sections)
    report = markdown(list(sections.values()), sweeps, not args.block)
    if args.insert is None:
        return report
    place = ' '.join(filter(None, ('reproduce_tables', args.block)))
    update_document(args.insert, place, report, args.check)
    return None


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr), user_errors(OSError):
        report = run(args)
    if report is not None:
        print(report)
