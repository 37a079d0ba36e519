"""Two versions of the package, timed in turns."""

import json
from pathlib import Path

import pytest

from mmscope.benchmark.checkouts import (
    Step,
    Worker,
    add_step,
    compare_checkouts,
)

ROOT = Path(__file__).parents[2]


def test_a_checkout_takes_as_long_as_itself():
    found = compare_checkouts(ROOT, ROOT, ['tiny'], [1], repeats=5)
    low, median, high = found['tiny, batch 1']
    assert low <= median <= high
    # Wide, as the machine may be busy.
    assert 0.3 < median < 3


def test_a_folder_without_the_package_is_named_with_the_reason(tmp_path):
    package = tmp_path / 'mmscope'
    package.mkdir()
    (package / '__init__.py').write_text('raise OSError("not built")')
    process = Worker(tmp_path, 'tiny', 1, 1)
    with process, pytest.raises(RuntimeError, match='not built'):
        process.forward()


def test_steps_are_added_and_replaced_by_name(tmp_path):
    path = tmp_path / 'new' / 'steps.json'
    for name, predicted in (('one', 0.5), ('two', 0.5), ('one', 0.6)):
        add_step(path, Step(name, predicted, 'old', 'new', {}))
    steps = json.loads(path.read_text())
    assert [(x['step'], x['predicted']) for x in steps] == [
        ('one', 0.6),
        ('two', 0.5),
    ]
