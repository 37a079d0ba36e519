"""The C++ operators under AddressSanitizer and UBSan, over the parity tests.

    python -m reliability.sanitizer [--json FILE]

in the folder ``tests``, a few minutes with g++. A copy of the package is built
with both sanitizers, and the tests that compare its operators with the
reference run on that copy: every shape, type and instruction set. Before, a
call with too short a tensor shows that the sanitizer sees what it must.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
# The others make one file of vectors compile for minutes.
SANITIZE = [
    '-fsanitize=address,undefined',
    '-fno-sanitize=null,object-size,pointer-overflow,vptr',
]
COMPILE = ['-O1', '-g1', '-fno-omit-frame-pointer', *SANITIZE, '-fopenmp']
LINK = [*SANITIZE, '-fopenmp']
PARITY = ('test_selective_scan', 'test_causal_conv1d', 'test_fused_cpu')
# The operator itself checks no shapes, its caller in Python does.
PLANTED = """
import torch
from mmscope.ops import extension

u, A = torch.rand(1, 64, 8), -torch.rand(8, 4)
B, short = torch.rand(1, 64, 4), torch.rand(1, 32, 4)
torch.ops.mmscope.selective_scan_cpu(
    u, u, A, B, short, None, None, None, False, False, False
)
"""
TESTS = """
import sys
import pytest
from mmscope.ops import extension

assert extension.why_not_compiled() is None, extension.why_not_compiled()
print('isas:', *extension.cpu_isas(), flush=True)
sys.exit(pytest.main(sys.argv[1:]))
"""


def build(folder: Path) -> None:
    """Build a copy of the package, as setup.py does but with sanitizers."""
    ignored = shutil.ignore_patterns('*.so', '__pycache__')
    for name in ('mmscope', 'requirements'):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ('setup.py', 'README.md'):
        shutil.copy(ROOT / name, folder)
    with (folder / 'mmscope/ops/build.py').open('a') as file:
        file.write(f'COMPILE_ARGS = {COMPILE}\nLINK_ARGS = {LINK}\n')
    command = [sys.executable, 'setup.py', 'build_ext', '--inplace']
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if not list(folder.glob('mmscope/ops/*.so')):
        raise RuntimeError(f'not built: {done.stdout}{done.stderr}')


def run(folder: Path, script: str, *args: str) -> tuple[str, str]:
    """Run a script on the copy.

    Args:
        folder (Path): Of :func:`build`.
        script (str): Python.
        *args (str): Its arguments.

    Returns:
        tuple[str, str]: Its output, and its errors, with the reports.
    """
    # Both must come before Python itself: memory, and C++ exceptions.
    first = ' '.join(map(_library, ('libasan.so', 'libstdc++.so')))
    done = subprocess.run(
        [sys.executable, '-c', script, *args],
        cwd=folder,
        env={
            **os.environ,
            'PYTHONPATH': str(folder),
            'LD_PRELOAD': first,
            # Python lets go of its memory where it ends, or never.
            'ASAN_OPTIONS': 'detect_leaks=0',
            'UBSAN_OPTIONS': 'print_stacktrace=1',
        },
        capture_output=True,
        text=True,
    )
    return done.stdout, done.stderr


def _library(name: str) -> str:
    compiler = os.environ.get('CXX') or 'c++'
    command = [*compiler.split(), f'-print-file-name={name}']
    return subprocess.check_output(command, text=True).strip()


def count(reports: str) -> dict[str, int]:
    """Count the reports of both sanitizers."""
    return {
        'address': reports.count('ERROR: AddressSanitizer'),
        'undefined': reports.count('runtime error:'),
    }


def parity(folder: Path) -> dict:
    """Run the parity tests.

    Args:
        folder (Path): Of :func:`build`.

    Returns:
        dict: Instruction sets, and for each file of tests how many ran and
        failed, and what was reported.

    Raises:
        RuntimeError: If a test process ended before its tests did.
    """
    found: dict = {'files': {}}
    for name in PARITY:
        table = folder / f'{name}.xml'
        said, reports = run(
            folder,
            TESTS,
            str(ROOT / f'tests/test_ops/{name}.py'),
            # Captured, reports would be lost.
            *('-q', '-s', '-n0', '-p', 'no:cacheprovider'),
            f'--junitxml={table}',
        )
        if any(count(reports).values()) or not table.is_file():
            print(said[-3000:], reports[:8000], file=sys.stderr)
        if not table.is_file():
            raise RuntimeError(f'{name} ended before its tests did')
        suite = ElementTree.parse(table).getroot().find('testsuite').attrib
        counts = {k: int(suite[k]) for k in ('tests', 'failures', 'errors')}
        found['files'][name] = {**counts, **count(reports)}
        found['isas'] = said.partition('isas: ')[2].splitlines()[0].split()
    return found


def main() -> None:
    """Build, run, and write what was reported."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        build(folder := Path(place))
        _, seen = run(folder, PLANTED)
        result = {
            'command': 'python -m reliability.sanitizer',
            'flags': ' '.join(COMPILE),
            'planted': count(seen),
            **parity(folder),
        }
    text = json.dumps(result, indent=1) + '\n'
    (args.json.write_text if args.json else sys.stdout.write)(text)


if __name__ == '__main__':
    main()
