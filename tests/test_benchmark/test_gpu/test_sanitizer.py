from __future__ import annotations

import pytest

from mmscope.benchmark.gpu.sanitizer import ERROR_STATUS, command, verdict
from mmscope.benchmark.gpu.scale import full_scale

CLEAN = 'small kernels: 60 tensors\n===== ERROR SUMMARY: 0 errors'


def test_the_tool_stands_in_front():
    words = command('racecheck', full_scale())
    assert words[:3] == ['compute-sanitizer', '--tool', 'racecheck']
    assert words[-1] == 'watched'


def test_a_clean_check_is_told_from_one_with_errors():
    assert verdict('memcheck', 0, CLEAN).ok
    said = 'Invalid __global__ write of size 4 bytes\n' + CLEAN
    found = verdict('memcheck', ERROR_STATUS, said)
    assert not found.ok
    assert found.said[0].startswith('Invalid __global__ write')


def test_a_tool_that_does_not_work_is_no_verdict():
    with pytest.raises(RuntimeError, match='Device not supported'):
        verdict('memcheck', 1, '===== Error: Device not supported')
