"""What is compiled before it is compared, timed or watched."""

from __future__ import annotations

import pytest

from mmscope.benchmark.gpu import run_cases, warm_cache
from mmscope.benchmark.gpu.op_grid import kernel_runs, op_steps
from mmscope.benchmark.gpu.scale import full_scale, tiny_scale
from mmscope.benchmark.gpu.warm_cache import command, number_of_processes


class CompilationError(Exception):
    """As Triton's own, which are no RuntimeError."""


@pytest.fixture
def done(monkeypatch):
    """Note which works run, in place of running them."""
    found = []

    def works(which, scale):
        def work(place):
            found.append((which, place))
            if (which, place) == ('parity', 1):
                raise CompilationError
            return 1

        return [lambda place=place: work(place) for place in range(4)]

    monkeypatch.setattr(run_cases, '_works', works)
    monkeypatch.setattr(run_cases, 'require_triton', lambda device: None)
    return found


def words(first, count, scale):
    """Arguments of a process behind 'python -m module'."""
    return command(first, count, scale)[3:]


def test_all_processes_together_warm_all_parts(done):
    for first in range(3):
        run_cases.main(words(first, 3, full_scale()))
    kinds = ('parity', 'ops', 'watched')
    assert sorted(done) == sorted((k, i) for k in kinds for i in range(4))
    # What many parts need comes first.
    assert done[0] == ('parity', 0)


def test_what_fails_under_a_tool_is_not_hidden(done, capsys):
    with pytest.raises(CompilationError):
        run_cases.main(['parity', '--dry-run'])
    run_cases.main(['parity', '--go-on', '--dry-run'])
    assert 'small kernels: 3 tensors' in capsys.readouterr().out


def test_every_comparison_of_operators_is_warmed():
    for scale in (full_scale(), tiny_scale()):
        assert len(list(kernel_runs(scale))) == len(list(op_steps(scale)))


def test_two_cores_are_left(monkeypatch):
    monkeypatch.setattr(warm_cache.os, 'cpu_count', lambda: 16)
    assert number_of_processes(full_scale()) == 14
    assert number_of_processes(tiny_scale()) == 1
