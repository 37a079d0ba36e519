"""Print the paper's tables with our numbers beside them.

    python tools/analysis_tools/reproduce_tables.py [--tables table1 ...]
        [--results NAME=SWEEP.json ...] [--results-dir DIR]
        [--brief] [--insert docs/results/tables.md [--check]]

Costs and parameters are computed on the spot and need no data. Accuracies
come from the JSON of sweep_threshold.py, 'not trained' stands where there is
none. NAME is the stem of a config in configs/imagenet, configs/miniimagenet,
configs/ade20k or configs/coco, such as mambascope_s; figure1_14x14 is
mambascope_s with --cfg-options model.backbone.refine_ratio=1.0. In DIR
(default: docs/results/imagenet) that is NAME.json or NAME/sweep.json. With
--insert the tables replace what stands between the lines

    <!-- reproduce_tables: begin -->
    <!-- reproduce_tables: end -->

and --check fails if what stands there is something else.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from importlib.util import find_spec
from pathlib import Path

# Hosts print while they are imported; the tables alone go to stdout.
with contextlib.redirect_stdout(sys.stderr):
    import torch
    from torch import nn

    from mmscope.analysis.markers import update_document
    from mmscope.analysis.paper import TABLES
    from mmscope.cli.arguments import add_check, tool_parser
    from mmscope.errors import UserError, user_errors
    from mmscope.evaluation.loading import build_model, open_config
    from mmscope.evaluation.paper_tables import Section, build
    from mmscope.evaluation.sweep_result import SweepResult
    from mmscope.evaluation.tables import format_table

# Columns of --brief.
BRIEF = (
    *('label', 'alpha', 'params_paper', 'params_M'),
    *('gflops', 'cost', 'full', 'score_paper'),
)
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
    parser = tool_parser(__doc__)
    add, all_of_them = parser.add_argument, list(TABLES)
    names = {'choices': all_of_them, 'default': all_of_them, 'nargs': '+'}
    text = f'of {", ".join(TABLES)} (default: all)'
    add('--tables', metavar='NAME', help=text, **names)
    text = 'JSON of sweep_threshold.py by the stem of the config'
    add('--results', nargs='+', default=[], metavar='NAME=FILE', help=text)
    text = 'folder of such files (default: docs/results/imagenet)'
    add('--results-dir', metavar='DIR', help=text)
    text = 'Markdown file with the two markers'
    add('--insert', metavar='MD', help=text)
    text = 'parameters, costs and accuracies alone, without notes'
    add('--brief', action='store_true', help=text)
    add_check(parser)
    args = parser.parse_args(argv)
    if args.check and not args.insert:
        parser.error('--check needs --insert')
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
    """Find the result files by run; those of the command line win."""
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
    """Read the file of a run, and refuse one of another data set."""
    sweep = SweepResult.read(path)
    runs = known_runs()
    config = Path(sweep.meta.config)
    if config.parent.name in {*runs.values()} - {runs[key]}:
        raise UserError(
            f'{path} is of {config}, the tables want '
            f'configs/{runs[key]} for {key}'
        )
    return sweep


def open_model(folder: str, stem: str) -> nn.Module | None:
    """Build a config's model on ``meta``; None without its host."""
    if find_spec(HOSTS[folder]) is None:
        return None
    cfg = open_config(str(ROOT / f'configs/{folder}/{stem}.py'))
    # Shapes alone: no memory, no initialisation.
    with torch.device('meta'):
        return build_model(cfg, device='meta')


def markdown(sections: list[Section], sweeps: dict[str, SweepResult]) -> str:
    """Format everything for people, with where accuracies come from."""
    parts = [INTRO]
    for section in sections:
        table = section.table
        parts.append(f'**{table.source}. {table.title}**')
        parts.append(format_table(section.frame, section.columns))
        if table.notes:
            parts.append('\n'.join(f'- {note}' for note in table.notes))
    parts.append(sources(sweeps))
    return '\n\n'.join(parts)


def brief(section: Section) -> str:
    """Format at most six columns of a table: size, cost and accuracy."""
    columns = [c for c in section.columns if c.key in BRIEF]
    frame = section.frame
    if 'eta' in frame:
        # Rows that nothing else tells apart.
        marks = frame['eta'].map(', η {:g}'.format, na_action='ignore')
        frame = frame.assign(label=frame['label'] + marks.fillna(''))
    return format_table(frame, columns[:6])


def sources(sweeps: dict[str, SweepResult]) -> str:
    """Say which runs our accuracies come from."""
    if not sweeps:
        return 'No model of these tables was trained here.'
    lines = [
        f'- `{key}`: {sweep.meta.config or "unknown config"}, '
        f'{sweep.num_images} images of split {sweep.meta.split!r}'
        for key, sweep in sweeps.items()
    ]
    return 'Our accuracies are those of:\n\n' + '\n'.join(lines)


def run(args: argparse.Namespace) -> str | None:
    """Build the tables; give what is to be printed, if anything."""
    sweeps = {k: read_sweep(k, v) for k, v in find_sweeps(args).items()}
    sections = [build(name, sweeps, open_model) for name in args.tables]
    if args.brief:
        report = '\n\n'.join(map(brief, sections))
    else:
        report = markdown(sections, sweeps)
    if args.insert is None:
        return report
    update_document(args.insert, 'reproduce_tables', report, args.check)
    return None


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr), user_errors(OSError):
        report = run(args)
    if report is not None:
        print(report)
