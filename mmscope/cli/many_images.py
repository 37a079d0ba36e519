"""Measure what the engine for many images wins, and that it loses nothing.

    python tools/analysis_tools/many_images.py
        [--json docs/results/many_images.json]
        [--parts classifier segmentor memory kills load]
    python tools/analysis_tools/speed_page.py
        --page docs/results/many_images.md

classifier, segmentor: images/s of ViM, of a plain gated loop and of the engine
at 25, 50 and 75 % exits, in turns. memory: the resident set over many images.
kills: rows after SIGKILLs. load: latencies of a server at rates around its
capacity.
Parts that are not measured keep what the file says of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mmscope.benchmark.files import read_json, write_json
from mmscope.benchmark.load_test import Load, measure_load
from mmscope.benchmark.long_runs import STEPS, measure_kills, measure_memory
from mmscope.benchmark.many_images import PARTS, Part
from mmscope.benchmark.setting import describe_setting, noise_note
from mmscope.benchmark.streams import (
    CLASSES,
    HOSTS,
    build,
    exit_thresholds,
    make_images,
    measure_streams,
)
from mmscope.cli.arguments import positive, tool_parser
from mmscope.errors import user_errors
from mmscope.inference.engine import TwoStageEngine
from mmscope.runtime import disk_errors, ending_cleanly

# Seconds that a request waits for others, and that it may take.
MAX_WAIT, DEADLINE = 0.02, 10.0
BATCH, PENDING = 8, 32


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add('--json', type=Path, default=Path('docs/results/many_images.json'))
    add('--parts', nargs='+', choices=[*PARTS], default=[*PARTS])
    text = 'of classifier, segmentor and load'
    add('--arch', default='tiny', help=text)
    add('--side', type=positive, default=224, help='pixels of these')
    text = 'of a run; batches of eight are full with a multiple of 32'
    add('--images', type=positive, default=96, help=text)
    text = 'timed runs of classifier and segmentor'
    add('--rounds', type=positive, default=7, help=text)
    add('--memory-images', type=positive, default=10_000)
    add('--kill-images', type=positive, default=2000)
    add('--kills', type=positive, default=5)
    add('--seconds', type=positive, default=20, help='of each rate of load')
    return parser.parse_args(argv)


@ending_cleanly(': parts that were measured are in the file')
def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    sizes = args.arch, args.side, args.images, args.rounds
    measure: dict[str, Callable[[], Any]] = {
        **{host: partial(measure_streams, host, *sizes) for host in HOSTS},
        'memory': lambda: measure_memory(args.memory_images),
        'kills': lambda: measure_kills(args.kill_images, args.kills),
        'load': lambda: load(args),
    }
    with user_errors():
        for part in args.parts:
            setting = describe_setting()
            if note := noise_note(setting):
                print(note)
            result = measure[part]()
            with disk_errors(args.json.parent, 'Name another --json'):
                put(args.json, part, Part(result, setting))
            print(PARTS[part][1](result))


def put(path: Path, name: str, part: Part) -> None:
    """Put one part into the file, which is made if missing."""
    found = {}
    if path.is_file():
        found = read_json(path, dict, 'analysis_tools/many_images.py')
    found[name] = part
    write_json(path, {name: found[name] for name in PARTS if name in found})


def load(args: argparse.Namespace) -> Load:
    """Measure a classifier's server at which half of the images exit."""
    model = build('classifier', 'MambaScope', args.arch, args.side)
    options = {'max_wait': MAX_WAIT, 'pipeline': STEPS}
    TwoStageEngine(model, 0.5)
    images = make_images(args.images, args.side)
    (eta,) = exit_thresholds(model, images, [0.5])
    engine = TwoStageEngine(model, eta, BATCH, BATCH, **options)
    classes = [*map(str, range(CLASSES))]
    return measure_load(
        engine,
        'mmpretrain',
        classes,
        args.side,
        args.seconds,
        PENDING,
        DEADLINE,
    )
