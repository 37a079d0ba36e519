"""Files of measurements are checked when they are read."""

from __future__ import annotations

import pytest

from mmscope.benchmark.files import read_json, write_json
from mmscope.benchmark.grid_rows import Grid, GridRow
from mmscope.errors import UserError

PLACE = {'subject': 'ViM', 'arch': 'tiny', 'batch': 8, 'resolution': '64x64'}


def test_what_was_written_is_read_again(tmp_path):
    row = GridRow(**PLACE, images_per_s=2.0, images_per_s_iqr=(1.0, 3.0))
    grid = Grid([row], setting={'commit': 'abc'})
    write_json(tmp_path / 'new' / 'grid.json', grid)
    assert read_json(tmp_path / 'new' / 'grid.json', Grid, 'x') == grid


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        ({'rows': [PLACE | {'gmacs': 'many'}]}, r'\$\.rows\[0\]\.gmacs'),
        ({'rows': [{'subject': 'ViM'}]}, 'missing required field `arch`'),
        ({'row': []}, 'unknown: row'),
        ([], 'got `array`'),
    ],
)
def test_something_else_is_refused_with_its_place(tmp_path, content, told):
    write_json(tmp_path / 'a.json', content)
    with pytest.raises(UserError, match=f'a.json is not the JSON.*{told}'):
        read_json(tmp_path / 'a.json', Grid, 'benchmark.py')
