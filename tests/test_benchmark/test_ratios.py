from __future__ import annotations

import pytest

from mmscope.benchmark.files import write_json
from mmscope.benchmark.models import DEIT, VIM
from mmscope.benchmark.ratios import (
    HALF,
    PRODUCTS,
    RatiosFile,
    changes,
    model_ratios,
)
from mmscope.benchmark.subjects import Subjects

from .conftest import CPU


def test_ratios_of_times_are_ours_over_the_rivals(sleeper):
    def build(arch, side):
        return Subjects(
            [
                sleeper(VIM, 0.02),
                sleeper(PRODUCTS, 0.01),
                sleeper(HALF, 0.01),
            ]
        )

    found = model_ratios('small', 2, build, 5, CPU)
    # DeiT is absent, and so are the ratios to it.
    assert set(found) == {
        'small, batch 2: ViM / its matrix products',
        'small, batch 2: MambaScope 50 % exits / ViM',
    }
    floor = found['small, batch 2: ViM / its matrix products']
    assert list(floor) == sorted(floor)
    assert floor[1] == pytest.approx(2)
    assert DEIT not in ''.join(found)


def test_a_ratio_that_got_worse_is_said(tmp_path):
    path = tmp_path / 'new' / 'bench.json'
    first = RatiosFile({'commit': 'a'}, {'x / y': (0.9, 1.0, 1.1)})
    assert changes(first, path) == 'x / y: 1.000 (0.900 to 1.100)'
    write_json(path, first)
    second = RatiosFile({'commit': 'b'}, {'x / y': 1.5, 'new': 1.0})
    text = changes(second, path)
    assert 'x / y: 1.500, before 1.000 WORSE by 50 %' in text
    assert text.endswith('new: 1.000')
