"""Time what importing each public part costs, in one checkout or several.

    python tools/misc/import_times.py [CHECKOUT ...] [--repeats N]

Every import runs in a process of its own, the checkouts in turns; the table
has the median of the processor seconds, which other programs disturb less
than the clock, and what else was loaded.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from mmscope.cli.arguments import tool_parser

PARTS = ('mmscope', 'ops', 'models', 'datasets', 'engine', 'evaluation')
PARTS += ('visualization',)
TOOLS = ('train', 'benchmark')
WATCHED = ('mmpretrain', 'mmseg', 'mmdet', 'matplotlib', 'pycocotools')
CODE = """
import json, runpy, sys, time
target, watched = sys.argv[1], sys.argv[2:]
start = time.process_time()
if target.endswith('.py'):
    sys.argv = [target, '--help']
    try:
        runpy.run_path(target, run_name='__main__')
    except SystemExit:
        pass
else:
    __import__(target)
loaded = [name for name in watched if name in sys.modules]
seconds = time.process_time() - start
print('\\n' + json.dumps({'seconds': seconds, 'loaded': loaded}))
"""


def measure(checkout: Path, target: str) -> tuple[float, list[str]]:
    """Import a module, or a tool by its path below the checkout, once.

    Returns:
        tuple[float, list[str]]: Processor seconds, and which of ``WATCHED``
        are loaded afterwards.
    """
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', CODE, target, *WATCHED],
        env={**os.environ, 'PYTHONPATH': str(checkout)},
        cwd=checkout,
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return found['seconds'], found['loaded']


def main(arguments: list[str] | None = None) -> None:
    """Print a Markdown table."""
    parser = tool_parser(__doc__)
    here = Path(__file__).resolve().parents[2]
    parser.add_argument('checkouts', nargs='*', type=Path, default=[here])
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args(arguments)
    targets = ['mmscope', *(f'mmscope.{part}' for part in PARTS[1:])]
    targets += [f'tools/{tool}.py' for tool in TOOLS]
    cells = ' | s | loads' * len(args.checkouts)
    print(f'| entry point{cells} |')
    print('|---' * (1 + 2 * len(args.checkouts)) + '|')
    for target in targets:
        runs = [
            [measure(folder.resolve(), target) for folder in args.checkouts]
            for _ in range(args.repeats)
        ]
        row = [f'`{target}`']
        for seconds_and_loaded in zip(*runs, strict=True):
            seconds = statistics.median(s for s, _ in seconds_and_loaded)
            loaded = ', '.join(seconds_and_loaded[0][1]) or 'none of them'
            row += [f'{seconds:.1f}', loaded]
        print(f'| {" | ".join(row)} |', flush=True)
