"""Runs the tests in one environment, folder by folder, and keeps the counts.

    VENV/bin/python -m reliability.stacks [FOLDER ...] [--slow] --json FILE

in the folder ``tests``, once with the Python of each environment that ``make
setup`` made. Folders that were not named keep the counts they have.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import torch

TESTS = Path(__file__).resolve().parents[1]
# Tests that lie in no folder.
LOOSE = 'tests/test_*.py'


def paths_of(folder: str) -> list[str]:
    """What pytest is told to run."""
    loose = sorted(path.name for path in TESTS.glob('test_*.py'))
    return loose if folder == LOOSE else [folder]


def environment() -> dict:
    """What is installed here, and how that is made."""
    installed = {d.metadata['Name'] for d in metadata.distributions()}
    stack = 'openmmlab' if 'mmcv' in installed else 'onedl'
    python = '.'.join(platform.python_version_tuple()[:2])
    probe = [sys.executable, '-c', 'import mmcv.ops']
    ops = not subprocess.run(probe, stderr=subprocess.DEVNULL).returncode
    command = f'make setup STACK={stack} PYTHON=python{python}'
    return {
        'stack': stack,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'mmcv_ops': ops,
        'command': command + ' OPS=1' * ops,
    }


def count(report: Path) -> dict:
    """Outcomes in a junit file, and the reasons of what was skipped."""
    cases = list(ElementTree.parse(report).iter('testcase'))
    skips = [skip for case in cases for skip in case.iter('skipped')]
    failed = [
        f'{case.get("classname")}.{case.get("name")}'
        for case in cases
        if case.find('failure') is not None or case.find('error') is not None
    ]
    reasons = Counter(skip.get('message') for skip in skips)
    return {
        'passed': len(cases) - len(skips) - len(failed),
        'skipped': len(skips),
        'failed': failed,
        'reasons': dict(reasons.most_common()),
    }


def run(folder: str, slow: bool) -> dict:
    """Run the tests of one folder."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / 'report.xml'
        options = ['-q', '-n0', '-p', 'no:cacheprovider']
        marks = [] if slow else ['-m', 'not slow']
        done = subprocess.run(
            [sys.executable, '-m', 'pytest', *options, *marks]
            + [f'--junitxml={report}', *paths_of(folder)],
            cwd=TESTS,
        )
        if not report.is_file():
            raise RuntimeError(
                f'{folder}: pytest ended with {done.returncode}'
            )
        return count(report)


def main() -> None:
    """Run the folders, and write after each what was seen so far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = sorted(path.name for path in TESTS.glob('test_*') if path.is_dir())
    parser.add_argument('folders', nargs='*', help='default: all')
    parser.add_argument('--slow', action='store_true', help='slow ones, too')
    parser.add_argument('--json', type=Path, required=True)
    args = parser.parse_args()
    here = environment()
    name = f'{here["stack"]}, Python {here["python"]}'
    for folder in args.folders or [LOOSE, *every]:
        found = run(folder, args.slow)
        written = args.json.is_file() and json.loads(args.json.read_text())
        result = written or {'environments': {}}
        entry = result['environments'].setdefault(name, {'folders': {}})
        entry.update(here)
        entry['folders'][folder] = found
        args.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
