"""Damaged data sets end in a right result or a clear error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from reliability import processes, repeats, stacks, surface
from reliability.page import PAGE, RESULTS, SECTIONS

from mmscope.analysis.markers import update_document

TESTS = Path(__file__).resolve().parents[1]


def test_every_damage_is_harmless_counted_or_named(tmp_path):
    """A short form of what docs/results/reliability.md shows."""
    for host in ('mmdet', 'mmseg', 'mmpretrain'):
        pytest.importorskip(f'{host}.models')
    file, number = tmp_path / 'found.json', 36
    options = ['--number', number, '--seed', 7, '--json', file]
    done = subprocess.run(
        [sys.executable, '-m', 'reliability.fuzz', *map(str, options)],
        cwd=TESTS,
        env={
            **os.environ,
            'OMP_NUM_THREADS': '1',
            'PYTHONPATH': str(TESTS.parent),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]

    found = json.loads((tmp_path / 'found.json').read_text())
    assert found['faults'] == []
    for counts in found['outcomes'].values():
        assert sum(counts.values()) == number // 3
        assert counts['clear error'] > 0


def test_random_words_give_right_results_or_clear_errors(tmp_path):
    """A short form, too."""
    surface.main(['--number=200', '--seed=3', f'--json={tmp_path / "a"}'])
    found = json.loads((tmp_path / 'a').read_text())
    assert found['faults'] == []
    for counts in found['outcomes'].values():
        assert counts['right'] > 5
        assert counts['clear error'] > 5


def test_a_case_that_ends_its_process_is_a_crash_and_others_go_on(
    tmp_path, monkeypatch
):
    def case(rng):
        return lambda: rng.random() < 0.5 or os._exit(3)

    monkeypatch.setattr(surface, 'CASES', {'x': case})
    surface.main(['--number=20', f'--json={tmp_path / "a"}'])
    found = json.loads((tmp_path / 'a').read_text())
    counts = found['outcomes']['x']
    assert counts['right'] > 0
    assert counts['crash'] == len(found['faults']) == 20 - counts['right'] > 0
    assert {fault['said'] for fault in found['faults']} == {'status 3'}


def test_batches_and_threads_decide_alike_and_memory_stays(tmp_path):
    """A short form, too."""
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    options = ['--images=24', '--forwards=60', '--steps=20']
    repeats.main([*options, f'--json={tmp_path / "a"}'])
    found = json.loads((tmp_path / 'a').read_text())
    for row in found['decisions']['rows']:
        assert row['exits'] == row['classes'] == 0
    for what in ('forwards_mib', 'steps_mib'):
        assert found[what][-1] - found[what][1] < 10


@pytest.mark.slow
def test_two_processes_train_count_and_decide_like_one(tmp_path):
    """A short form, too."""
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    options = ['--hosts', 'classification', '--steps=4']
    processes.main([*options, f'--json={tmp_path / "a"}'])
    found = json.loads((tmp_path / 'a').read_text())
    found = found['hosts']['classification']
    assert found['steps'] == 4
    assert found['largest_difference'] < 1e-5
    for row in found['tests']:
        assert row['counted'] == [27, 27]
        assert 0 < row['exits'] < 27
        assert row['other_decisions'] == 0
        assert row['other_metrics'] == []


def test_an_image_that_is_counted_twice_is_a_difference():
    image = {'exited': 1.0, 'tokens': 5, 'macs': 9, 'confidence': 0.5}
    score = {'threshold': 0.4, 'metrics': {'top1': 50.0}, 'images': [image]}
    one = {'train_images': 3, 'test_images': 1, 'losses': [[{'loss': 2.0}]]}
    one['scores'] = [score]
    rounded = {**image, 'confidence': 0.5000001}
    two = {**one, 'losses': [[{'loss': 1.0}], [{'loss': 3.1}]]}
    two['scores'] = [{**score, 'images': [rounded, rounded]}]
    found = processes.compare(one, two)
    assert found['largest_difference'] == pytest.approx(0.025)
    (row,) = found['tests']
    assert (row['counted'], row['other_decisions']) == ([1, 2], 1)
    assert row['other_metrics'] == []


def test_outcomes_of_tests_are_counted_with_the_reasons(tmp_path):
    cases = {
        'good': '',
        'bad': '<failure message="wrong"/>',
        'broken': '<error message="no fixture"/>',
        'left_out': '<skipped message="needs a GPU"/>',
    }
    lines = [
        f'<testcase classname="room" name="{name}">{inside}</testcase>'
        for name, inside in cases.items()
    ]
    report = tmp_path / 'report.xml'
    report.write_text(f'<testsuite>{"".join(lines)}</testsuite>')
    assert stacks.count(report) == {
        'passed': 1,
        'skipped': 1,
        'failed': ['room.bad', 'room.broken'],
        'reasons': {'needs a GPU': 1},
    }


def test_the_page_shows_what_the_files_hold():
    for name, table in SECTIONS.items():
        file = RESULTS / 'reliability' / f'{name}.json'
        report = table(json.loads(file.read_text()))
        update_document(PAGE, f'reliability_{name}', report, check=True)
