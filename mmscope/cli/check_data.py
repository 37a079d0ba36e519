"""Open every file of a config's data sets, and say which are not right.

    mmscope doctor --data CONFIG [--cfg-options KEY=VALUE ...]

What training looks at before it begins is a sample; this decodes every image
and mask, and reads all annotations, also the evaluator's. Status 1 if
anything is not right.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout

from mmengine.config import Config
from mmengine.registry import DATASETS

from mmscope.cli.arguments import add_cfg_options, tool_parser
from mmscope.datasets.checked import without_samples
from mmscope.datasets.coco_metric import check_evaluators
from mmscope.datasets.full_check import Findings, check_all
from mmscope.errors import DatasetLayoutError, user_errors
from mmscope.evaluation.loading import open_config
from mmscope.runtime import ending_cleanly

SPLITS = ('train', 'val', 'test')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('--data', required=True, metavar='CONFIG')
    add_cfg_options(parser)
    return parser.parse_args(argv)


def splits_of(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Give every data set of a config once, after the splits that use it."""
    found: list[tuple[list[str], dict]] = []
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if not loader:
            continue
        data = loader['dataset'].to_dict()
        same = [names for names, other in found if other == data]
        if same:
            same[0].append(split)
        else:
            found.append(([split], data))
    for names, data in found:
        yield ', '.join(names), data


def check_split(data: dict) -> Findings:
    """Open every file of a data set; that it cannot be built is a problem."""
    try:
        with without_samples():
            dataset = DATASETS.build(data)
        return check_all(dataset, _progress)
    except DatasetLayoutError as error:
        return Findings(1, [str(error)])


def _progress(done: int, number: int) -> None:
    if done % 500 == 0:
        print(f'{done:,} of {number:,}', file=sys.stderr, flush=True)


@ending_cleanly()
def main(argv: list[str] | None = None) -> None:
    """Check, and say what was found."""
    args = parse_args(argv)
    out, wrong = sys.stdout, False
    # Hosts print while they are imported and read.
    with redirect_stdout(sys.stderr):
        # Wrong names and arguments surface while it is built.
        with user_errors(OSError, ValueError, KeyError, TypeError):
            cfg = open_config(args.data, args.cfg_options)
            for name, data in splits_of(cfg):
                found = check_split(data)
                wrong |= bool(found.problems)
                print(found.report(name), file=out, flush=True)
            check_evaluators(cfg)
    if wrong:
        raise SystemExit(1)
