"""Writes the tables of docs/results/reliability.md from the JSON files.

    python -m reliability.page [--check]

in the folder ``tests``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from mmscope.analysis.markers import update_document

from .fuzz import OUTCOMES

RESULTS = Path(__file__).resolve().parents[2] / 'docs/results'
PAGE = RESULTS / 'reliability.md'


def data_sets(result: dict) -> str:
    """Table of what came of damaged data sets."""
    kinds = result['kinds_of_damage']
    heads = ('data', 'kinds of damage', 'data sets')
    return outcomes(result, heads, lambda kind: [kinds[kind]])


def outcomes(
    result: dict,
    heads: Sequence[str],
    more: Callable[[str], list] = lambda kind: [],
) -> str:
    """Table of how many cases of each kind came to what."""
    lines = [
        f'`{result["command"]}`, in `tests`:',
        '',
        f'| {" | ".join([*heads, *OUTCOMES])} |',
        f'|---|{"---:|" * (len(heads) - 1 + len(OUTCOMES))}',
    ]
    for kind, counts in result['outcomes'].items():
        cells = [kind, *more(kind), sum(counts.values())]
        cells += [counts[outcome] for outcome in OUTCOMES]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(lines)


def kills(result: dict) -> str:
    """Table of what came of killed trainings."""
    trials = result['trials']
    killed = [t for t in trials if t['killed']]
    writing = [t for t in killed if t['moment'].endswith('appears')]
    resumed = [t['resumed_from'] == t['newest_complete'] for t in trials]
    rows = {
        f'trainings of {result["steps"]} steps, a checkpoint every '
        f'{result["interval"]}': len(trials),
        'killed while they ran': len(killed),
        "of them as soon as a checkpoint's file appeared": len(writing),
        'left an incomplete checkpoint': sum(
            t['incomplete_files'] > 0 for t in trials
        ),
        'went on from the newest complete checkpoint': sum(resumed),
        'ended with the same weights and optimizer, bit for bit': sum(
            t['same_end'] for t in trials
        ),
    }
    lines = [f'`{result["command"]}`, in `tests`:', '', '| | |', '|---|---:|']
    return '\n'.join([*lines, *(f'| {k} | {v} |' for k, v in rows.items())])


def surface(result: dict) -> str:
    """Table of what came of random input to what programs call."""
    return outcomes(result, ('called', 'inputs'))


def repeats(result: dict) -> str:
    """Table of decisions in other batches, and of memory."""
    found = result['decisions']
    number = found['images'] * len(found['thresholds'])
    lines = [
        f'`{result["command"]}`, in `tests`:',
        '',
        f'| batch | threads | other exits, of {number} | other classes |',
        '|---:|---:|---:|---:|',
    ]
    for row in found['rows']:
        cells = (row[k] for k in ('batch', 'threads', 'exits', 'classes'))
        lines.append(f'| {" | ".join(map(str, cells))} |')
    for what in ('forwards', 'steps'):
        seen = ', '.join(map(str, result[f'{what}_mib']))
        lines += ['', f'Resident set over {result[what]} {what}: {seen} MiB.']
    return '\n'.join(lines)


def processes(result: dict) -> str:
    """Table of one process against two."""
    heads = (
        *('host', 'images to train on', 'steps'),
        'largest relative difference of a loss',
        *('images to test on', 'counted'),
        'exits at five thresholds',
        *('other decisions', 'other metrics'),
    )
    lines = [
        f'`{result["command"]}`, in `tests`:',
        '',
        f'| {" | ".join(heads)} |',
        f'|---|{"---:|" * (len(heads) - 1)}',
    ]
    for host, found in result['hosts'].items():
        tests = found['tests']
        counted = sorted({n for test in tests for n in test['counted']})
        cells = (
            host,
            found['train_images'],
            found['steps'],
            f'{found["largest_difference"]:.0e}',
            found['test_images'],
            ' or '.join(map(str, counted)),
            ', '.join(f'{test["exits"]:.0f}' for test in tests),
            sum(test['other_decisions'] for test in tests),
            sum(len(test['other_metrics']) for test in tests),
        )
        lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(lines)


def sanitizer(result: dict) -> str:
    """Table of what the sanitizers reported."""
    lines = [
        f'`{result["command"]}`, in `tests`; built with `{result["flags"]}`, '
        f'instruction sets {" and ".join(result["isas"])}:',
        '',
        '| tests | ran | failed | AddressSanitizer | UBSan |',
        '|---|---:|---:|---:|---:|',
    ]
    for name, found in result['files'].items():
        failed = found['failures'] + found['errors']
        cells = (name, found['tests'], failed)
        cells += (found['address'], found['undefined'])
        lines.append(f'| {" | ".join(map(str, cells))} |')
    planted = result['planted']['address']
    lines.append(f'| a tensor that is too short | 1 | | {planted} | |')
    return '\n'.join(lines)


def stacks(result: dict) -> str:
    """Table of the tests in each environment."""
    found = list(result['environments'].values())
    folders = sorted({name for one in found for name in one['folders']})
    rows = {
        'made by': [f'`{one["command"]}`' for one in found],
        'Python': [one['python'] for one in found],
        'torch': [one['torch'] for one in found],
        "mmcv's ops": [('no', 'yes')[one['mmcv_ops']] for one in found],
        **{
            f'`{name}`': [tested(one['folders'].get(name)) for one in found]
            for name in folders
        },
        'sum': [tested(*one['folders'].values()) for one in found],
    }
    lines = [
        '`python -m reliability.stacks`, in `tests`; passed, skipped, failed:',
        '',
        f'| stack | {" | ".join(one["stack"] for one in found)} |',
        f'|---|{"---|" * len(found)}',
    ]
    lines += [f'| {k} | {" | ".join(cells)} |' for k, cells in rows.items()]
    return '\n'.join(lines)


def tested(*counts: dict | None) -> str:
    """Cell of what came of tests, '-' where they were left out."""
    known = [one for one in counts if one]
    if not known:
        return '-'
    passed = sum(one['passed'] for one in known)
    skipped = sum(one['skipped'] for one in known)
    failed = sum(len(one['failed']) for one in known)
    return f'{passed}, {skipped}, {failed}'


SECTIONS = {
    'data_sets': data_sets,
    'kills': kills,
    'surface': surface,
    'repeats': repeats,
    'repeats_real': repeats,
    'processes': processes,
    'sanitizer': sanitizer,
    'stacks': stacks,
}


def main() -> None:
    """Write every section whose JSON is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true')
    check = parser.parse_args().check
    for name, table in SECTIONS.items():
        path = RESULTS / 'reliability' / f'{name}.json'
        if path.is_file():
            report = table(json.loads(path.read_text()))
            update_document(PAGE, f'reliability_{name}', report, check)


if __name__ == '__main__':
    main()
