from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mmscope.benchmark.gpu.scale import TINY, TINY_DEIT
from mmscope.benchmark.grid import measure_cell, measure_grid
from mmscope.benchmark.grid_report import grid_section
from mmscope.benchmark.grid_rows import (
    Cell,
    Grid,
    GridRow,
    add_predictions,
    slower_cases,
)
from mmscope.benchmark.memory import CPU_METHOD, memory_method, peak_growth
from mmscope.benchmark.models import (
    DEIT,
    SCOPE,
    VIM,
    BenchmarkModel,
    build_vim,
    cast,
)
from mmscope.benchmark.subjects import Subject, Subjects, make_subjects
from mmscope.models import VisionMamba
from mmscope.runtime.memory import keep_freed_memory

from .conftest import CPU

CELL = Cell('small', 8, 224)


def row(name, kind, speed, exit_ratio=None, gmacs=1.0, spread=0.0):
    return GridRow(
        **vars(CELL),
        subject=name,
        kind=kind,
        model=kind,
        images_per_s=speed,
        images_per_s_iqr=(speed - spread, speed + spread),
        exit_ratio=exit_ratio,
        gmacs=gmacs,
        latency_ms_p50=1.0,
        latency_ms_p95=1.0,
    )


def test_a_slower_subject_has_the_smaller_speed(sleeper, limits):
    grid = Grid()
    field = Subjects([sleeper('fast', 0.001), sleeper('slow', 0.01)])
    measure_cell(CELL, field, limits, grid)
    fast, slow = grid.rows
    assert (fast.subject, slow.subject) == ('fast', 'slow')
    assert slow.images_per_s == pytest.approx(100)
    assert fast.images_per_s == pytest.approx(1000)
    assert slow.latency_ms_p50 == pytest.approx(80)


def test_two_subjects_of_one_name_are_refused(sleeper):
    # The later one's times would stand in the row of the first, too.
    with pytest.raises(ValueError, match="name of its own, got 'ViM' twice"):
        Subjects([sleeper('ViM', 0.001), sleeper('ViM', 0.01)])


def test_who_is_over_budget_is_listed_and_the_others_are_measured(
    sleeper, limits
):
    limits = replace(limits, budget_s=2.0)
    field = Subjects([sleeper('fast', 1e-4), sleeper('endless', 0.05)])
    grid = measure_grid(['small'], [1, 500], [224], lambda *_: field, limits)
    measured = {(r.subject, r.batch) for r in grid.rows}
    assert measured == {('fast', 1), ('fast', 500), ('endless', 1)}
    (skipped,) = grid.skipped
    assert (skipped.subject, skipped.batch) == ('endless', 500)
    assert 'over the time budget' in skipped.reason


def test_what_would_not_fit_in_memory_is_not_begun(limits):
    sizes = []

    def make(batch):
        def run():
            sizes.append(batch)
            return torch.ones(batch * 2**24).sum()

        return run

    grid = Grid()
    limits = replace(limits, budget_gib=0.5)
    field = Subjects([Subject('large', 'large', make)])
    measure_cell(Cell('small', 64, 224), field, limits, grid)
    assert memory_method(CPU) == CPU_METHOD
    assert 'over the memory budget' in grid.skipped[0].reason
    assert max(sizes) < 64


def test_running_out_of_memory_is_listed(limits):
    def make(batch):
        def run():
            raise RuntimeError('CUDA out of memory. Tried to allocate')

        return run

    grid = Grid()
    field = Subjects([Subject('large', 'large', make)], {'DeiT': 'absent'})
    measure_cell(CELL, field, limits, grid)
    reasons = {x.subject: x.reason for x in grid.skipped}
    assert reasons['DeiT'] == 'absent'
    assert reasons['large'].startswith('out of memory')


def test_another_failure_is_not_taken_for_a_lack_of_memory(limits):
    def make(batch):
        def run():
            raise RuntimeError('shapes differ')

        return run

    field = Subjects([Subject('broken', 'broken', make)])
    with pytest.raises(RuntimeError, match='shapes differ'):
        measure_cell(CELL, field, limits, Grid())


def test_memory_is_that_of_one_forward():
    def run():
        return torch.ones(2**24).sum()

    # As the tool does: then what one forward frees, the next one finds.
    keep_freed_memory()
    run()
    for _ in range(2):
        assert peak_growth(run, CPU) == pytest.approx(2**26, rel=0.2)


def test_cells_are_timed_where_memory_cannot_be_measured(
    sleeper, limits, monkeypatch
):
    monkeypatch.setattr('mmscope.benchmark.memory._reset_peak', lambda: False)
    grid = Grid()
    measure_cell(CELL, Subjects([sleeper('one', 1e-3)]), limits, grid)
    assert grid.rows[0].memory_mib is None
    assert memory_method(CPU).startswith('not measured')


def test_the_line_up_runs_with_every_neck_and_dtype(limits):
    # A pyramid in bfloat16 is slow on many CPUs.
    for neck, dtype in (('none', torch.bfloat16), ('fpn', torch.float32)):
        field = make_subjects(
            TINY,
            64,
            neck=neck,
            dtype=dtype,
            exit_ratios=(0.0, 0.5),
            matmuls=True,
            deit_arch=TINY_DEIT,
        )
        grid = Grid()
        cell = Cell('test', 2, 64)
        measure_cell(
            cell, field, replace(limits, repeats=1, budget_s=600), grid
        )
        names = {r.subject for r in grid.rows}
        assert {VIM, 'matrix products of ViM'} <= names
        assert {f'{SCOPE} 0 %', f'{SCOPE} 50 %'} <= names
        absent = {x.subject for x in grid.skipped}
        assert DEIT in names | absent
        assert all(r.images_per_s > 0 for r in grid.rows)


def test_a_head_is_as_wide_as_the_backbones_vector():
    class Foreign(nn.Module):
        """As mmpretrain's: it says no width but that of its tokens."""

        embed_dims = 12

    class Wide(VisionMamba):
        """Two summary tokens in one vector, say."""

        summary_dims = 32

    backbones = (Foreign(), VisionMamba(TINY), Wide(TINY))
    widths = [BenchmarkModel(b).head.in_features for b in backbones]
    assert widths == [12, 16, 32]


def test_the_state_of_the_scan_stays_float32():
    model = cast(build_vim(TINY, 64), torch.bfloat16, CPU)
    mixer = model.backbone.layers[0].mixer
    assert mixer.A_log.dtype == mixer.D_b.dtype == torch.float32
    assert mixer.in_proj.weight.dtype == torch.bfloat16


def test_half_the_cost_is_promised_half_the_time():
    rows = [
        row('ViM', VIM, 100.0, gmacs=4.0),
        row('MambaScope 0 %', SCOPE, 80.0, 0.0, gmacs=5.0),
        row('MambaScope 50 %', SCOPE, 160.0, 0.5, gmacs=2.0),
    ]
    add_predictions(rows)
    nobody, half = rows[1:]
    assert half.predicted_images_per_s == pytest.approx(200)
    assert half.saving_promised == pytest.approx(0.5)
    # 10 ms became 6.25 ms, of the 5 ms promised.
    assert half.saving_won == pytest.approx(0.375)
    assert half.share_won == pytest.approx(0.75)
    # From 12.5 ms to 6.25 ms where 60 % were promised.
    assert half.exit_share_won == pytest.approx(0.5 / 0.6)
    assert nobody.share_won is None
    assert nobody.saving_promised < 0
    text = grid_section(Grid(rows))
    assert 'exit saving that was won, by batch: 8: 83 %' in text


def test_every_loss_is_named_and_nothing_else():
    rows = [
        row('DeiT', DEIT, 120.0, spread=5),
        row('ViM', VIM, 90.0),
        row('MambaScope 50 %', SCOPE, 100.0, 0.5, spread=5),
        row('MambaScope 0 %', SCOPE, 50.0, 0.0),
    ]
    (loss,) = slower_cases(rows)
    assert (loss.rival, loss.times) == ('DeiT', pytest.approx(1.2))
    assert loss.clear
    rows[0].images_per_s_iqr = (101.0, 130.0)
    assert not slower_cases(rows)[0].clear
    text = grid_section(Grid(rows))
    assert 'MambaScope 50 % takes 1.20 x the time of DeiT' in text


def test_no_loss_is_claimed_only_where_half_exits_ran():
    rows = [row('ViM', VIM, 90.0), row('MambaScope 50 %', SCOPE, 99.0, 0.5)]
    assert 'nowhere' in grid_section(Grid(rows))
    assert 'unknown' in grid_section(Grid(rows[:1]))
