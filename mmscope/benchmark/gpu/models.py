"""The grid of whole models: eager, as CUDA graphs, compiled; and exits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from mmscope.benchmark.gpu import graphs
from mmscope.benchmark.gpu.rival import (
    MODULE,
    RIVAL,
    why_no_rival,
    with_rival_mixers,
)
from mmscope.benchmark.gpu.scale import CellPlan, Scale
from mmscope.benchmark.gpu.scope_graphs import DTYPE, graph_subjects
from mmscope.benchmark.gpu.stand_in import stand_in
from mmscope.benchmark.gpu.steps import Step, is_fatal
from mmscope.benchmark.grid import Limits, race_cell
from mmscope.benchmark.grid_rows import Cell, GridRow, add_predictions
from mmscope.benchmark.memory import out_of_memory
from mmscope.benchmark.models import (
    DEIT,
    SCOPE,
    VIM,
    BenchmarkModel,
    build_deit,
    build_scope,
    build_vim,
    cast,
    why_no_deit,
)
from mmscope.benchmark.subjects import (
    Subject,
    Subjects,
    images_of,
    make_subjects,
    plain_subject,
)
from mmscope.evaluation.interleaved_timing import Run

EXIT_RATIOS = (0.0, 0.5, 1.0)
# What building and the first runs, in which kernels are compiled, may take
# beside the timing.
FIRST_S, COMPILE_S = 60.0, 70.0
GATED_S, GATED_LIMIT_S = 8.0, 45.0
LineUp = Callable[[CellPlan, Scale], Subjects]


def model_steps(scale: Scale) -> Iterator[Step]:
    """List the cells."""
    for plan in scale.cells:
        first = COMPILE_S * len(plan.compiled) or FIRST_S
        line_up = compiled_subjects if plan.compiled else eager_subjects
        yield cell_step(plan, line_up, scale, plan.budget_s + first)


def gated_steps(scale: Scale) -> Iterator[Step]:
    """List the batches at which what exits win is measured."""
    for batch in scale.gated_batches:
        plan = CellPlan('small', scale.side, batch, budget_s=GATED_S)
        yield cell_step(plan, gated_subjects, scale, GATED_LIMIT_S)


def cell_step(
    plan: CellPlan, line_up: LineUp, scale: Scale, limit_s: float
) -> Step:
    """Make the step of one cell, measured under autocast to bfloat16.

    ``line_up`` gives who takes part, with weights in float32.
    """

    def run(left: float) -> list[GridRow]:
        with stand_in(MODULE, scale.dry_run):
            # Drawing the weights of seven models on a CPU takes its seconds.
            with scale.device:
                field = line_up(plan, scale)
            return measure(plan, field, scale, min(plan.budget_s, left))

    return Step(plan.name, run, limit_s)


def measure(
    plan: CellPlan, field: Subjects, scale: Scale, budget_s: float
) -> list[GridRow]:
    """Measure one cell; rows of those who did not run have a ``reason``."""
    wrapped = [with_autocast(one, scale.device) for one in field.subjects]
    field = replace(field, subjects=wrapped)
    timed, skipped = who_runs(field, plan.batch, scale.device)
    limits = Limits(scale.device, scale.repeats, budget_s * scale.patience)
    cell = Cell(plan.arch, plan.batch, plan.resolution)
    rows = list(race_cell(timed, cell, limits, skipped))
    add_predictions(rows)
    return rows + [
        GridRow(**vars(cell), subject=name, reason=reason)
        for name, reason in skipped.items()
    ]


def with_autocast(subject: Subject, device: torch.device) -> Subject:
    """Let a subject run under autocast to bfloat16."""

    def make(batch: int) -> Run:
        run = subject.make(batch)

        def cast_run() -> object:
            with torch.autocast(device.type, DTYPE):
                return run()

        return cast_run

    return replace(subject, make=make)


def who_runs(
    field: Subjects, batch: int, device: torch.device
) -> tuple[list[Subject], dict[str, str]]:
    """Run everybody once: what fails must not spoil the others' timing.

    Returns:
        tuple[list[Subject], dict[str, str]]: Those who ran, whose run is
        kept, and the others' reasons.

    Raises:
        RuntimeError: If one cost this process its GPU.
    """
    timed, skipped = [], dict(field.absent)
    for subject in field.subjects:
        if graphs.process.lost:
            # Even drawing images would fail now.
            skipped[subject.name] = graphs.AFTER_LOSS
            continue
        try:
            run = subject.make(batch)
            run()
        except Exception as error:
            if is_fatal(error):
                raise
            skipped[subject.name] = _reason(error)
            # While PyTorch takes a recording to go on it refuses this.
            if device.type == 'cuda' and not graphs.process.lost:
                torch.cuda.empty_cache()
            continue
        timed.append(replace(subject, make=lambda _, run=run: run))
    return timed, skipped


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [''])[0]
    return out_of_memory(error) or f'{type(error).__name__}: {first}'


def builders(
    plan: CellPlan, scale: Scale
) -> tuple[dict[str, Callable[[], BenchmarkModel]], dict[str, str]]:
    """Say how each model of a cell is built, and why others cannot be."""
    arch, side = scale.arch(plan.arch), plan.resolution
    found = {
        VIM: partial(build_vim, arch, side),
        SCOPE: partial(build_scope, arch, side),
        DEIT: partial(build_deit, scale.deit or arch, side),
        RIVAL: lambda: with_rival_mixers(build_vim(arch, side)),
    }
    reasons = {DEIT: why_no_deit(), RIVAL: why_no_rival()}
    absent = {name: reason for name, reason in reasons.items() if reason}
    return {k: v for k, v in found.items() if k not in absent}, absent


def _subjects(
    plan: CellPlan, scale: Scale, exit_ratios: tuple[float, ...]
) -> Subjects:
    return make_subjects(
        scale.arch(plan.arch),
        plan.resolution,
        device=scale.device,
        exit_ratios=exit_ratios,
        deit_arch=scale.deit,
    )


def gated_subjects(plan: CellPlan, scale: Scale) -> Subjects:
    """Line up ViM and MambaScope at three exit ratios."""
    field = _subjects(plan, scale, EXIT_RATIOS)
    return Subjects([x for x in field.subjects if x.kind in (VIM, SCOPE)])


def eager_subjects(plan: CellPlan, scale: Scale) -> Subjects:
    """Line up everybody as PyTorch runs them, and as graphs where wanted.

    That is ViM alone unless the architecture is 'small': then also DeiT,
    MambaScope at three exit ratios, and ViM on mamba-ssm's kernels.
    """
    if plan.arch != 'small':
        field = _subjects(plan, scale, ())
        return Subjects([one for one in field.subjects if one.kind == VIM])
    found = list(_subjects(plan, scale, EXIT_RATIOS).subjects)
    build, absent = builders(plan, scale)
    draw = images_of(plan.resolution, torch.float32, scale.device)
    if RIVAL in build:
        rival = cast(build[RIVAL](), torch.float32, scale.device)
        found.append(plain_subject(RIVAL, rival, draw))
    if plan.graphs:
        found += graph_subjects(build, plan, scale, draw)
    return Subjects(found, absent)


def compiled_subjects(plan: CellPlan, scale: Scale) -> Subjects:
    """Line models up, each eager and compiled."""
    draw = images_of(plan.resolution, torch.float32, scale.device)
    build, absent = builders(plan, scale)
    # What the cells before compiled is of no use any more, and counts.
    torch._dynamo.reset()
    found = []
    for name in [name for name in plan.compiled if name in build]:
        model = cast(build[name](), torch.float32, scale.device)
        compiled = torch.compile(model, backend=scale.compiler, dynamic=False)
        found.append(plain_subject(name, model, draw))
        found.append(plain_subject(f'{name}, compiled', compiled, draw))
    absent = {k: v for k, v in absent.items() if k in plan.compiled}
    return Subjects(found, absent)
