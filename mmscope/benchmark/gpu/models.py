"""The grid of whole models: eager, as CUDA graphs, compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from mmscope.benchmark.gpu.rival import (
    MODULE,
    why_no_rival,
    with_rival_mixers,
)
from mmscope.benchmark.gpu.scale import CellPlan, Scale
from mmscope.benchmark.gpu.scope_graphs import DTYPE, graph_subjects
from mmscope.benchmark.gpu.stand_in import stand_in
from mmscope.benchmark.gpu.steps import Step, is_fatal
from mmscope.benchmark.grid import Cell, Limits, race_cell
from mmscope.benchmark.memory import is_out_of_memory
from mmscope.benchmark.models import (
    DEIT,
    VIM,
    build_deit,
    build_vim,
    cast,
    why_no_deit,
)
from mmscope.benchmark.predictions import add_predictions
from mmscope.benchmark.subjects import (
    Subject,
    Subjects,
    forward_run,
    images_of,
    make_subjects,
    weight_bytes,
)
from mmscope.evaluation.interleaved_timing import Run

EXIT_RATIOS = (0.0, 0.5, 1.0)
RIVAL = f'{VIM}, {MODULE}'
# What building and the first runs, in which kernels are compiled, may take
# beside the timing.
FIRST_S, COMPILE_S = 60.0, 70.0


def autocast_run(run: Run, device: torch.device) -> Run:
    """Run under autocast to bfloat16."""

    def cast_run() -> object:
        with torch.autocast(device.type, DTYPE):
            return run()

    return cast_run


def with_autocast(field: Subjects, device: torch.device) -> Subjects:
    """Let all subjects run under autocast.

    Args:
        field (Subjects): With weights in float32.
        device (torch.device): Where they work.

    Returns:
        Subjects: The same with other runs.
    """

    def wrap(subject: Subject) -> Subject:
        def make(batch: int) -> Run:
            return autocast_run(subject.make(batch), device)

        return replace(subject, make=make)

    return replace(field, subjects=[wrap(one) for one in field.subjects])


def model_steps(scale: Scale) -> Iterator[Step]:
    """List the cells.

    Args:
        scale (Scale): Cells and device.

    Yields:
        Step: One a cell.
    """
    for plan in scale.cells:
        first = COMPILE_S * len(plan.compiled) or FIRST_S
        yield Step(
            plan.name, partial(_cell, plan, scale), plan.budget_s + first
        )


def _cell(plan: CellPlan, scale: Scale, left: float) -> list[dict]:
    with stand_in(MODULE, scale.dry_run):
        cell_subjects = compiled_subjects if plan.compiled else eager_subjects
        # Drawing the weights of seven models on a CPU takes its seconds.
        with scale.device:
            field = cell_subjects(plan, scale)
        return measure(plan, field, scale, min(plan.budget_s, left))


def measure(
    plan: CellPlan, field: Subjects, scale: Scale, budget_s: float
) -> list[dict]:
    """Measure one cell under autocast.

    Args:
        plan (CellPlan): Where.
        field (Subjects): Who, with weights in float32.
        scale (Scale): Device and repeats.
        budget_s (float): Seconds of the timing.

    Returns:
        list[dict]: Rows as those of :func:`measure_cell`; those who did not
        run have ``reason`` in place of numbers.
    """
    field = with_autocast(field, scale.device)
    timed, skipped = who_runs(field, plan.batch, scale.device)
    limits = Limits(scale.device, scale.repeats, budget_s * scale.patience)
    cell = Cell(plan.arch, plan.batch, plan.resolution)
    rows = list(race_cell(timed, cell, limits, skipped))
    rows = add_predictions([{**vars(cell), **row} for row in rows])
    return rows + [
        {'subject': name, **vars(cell), 'reason': reason}
        for name, reason in skipped.items()
    ]


def who_runs(
    field: Subjects, batch: int, device: torch.device
) -> tuple[list[Subject], dict[str, str]]:
    """Run everybody once: what fails must not spoil the others' timing.

    Args:
        field (Subjects): Who.
        batch (int): Images of a forward.
        device (torch.device): Where they work.

    Returns:
        tuple[list[Subject], dict[str, str]]: Those who ran, whose run is
        kept, and the others' reasons.

    Raises:
        RuntimeError: If one cost this process its GPU.
    """
    timed, skipped = [], dict(field.absent)
    for subject in field.subjects:
        try:
            run = subject.make(batch)
            run()
        except Exception as error:
            if is_fatal(error):
                raise
            skipped[subject.name] = _reason(error)
            if device.type == 'cuda':
                torch.cuda.empty_cache()
            continue
        timed.append(replace(subject, make=lambda _, run=run: run))
    return timed, skipped


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [''])[0]
    if isinstance(error, RuntimeError) and is_out_of_memory(error):
        return f'out of memory: {first}'
    return f'{type(error).__name__}: {first}'


def eager_subjects(plan: CellPlan, scale: Scale) -> Subjects:
    """Prepare every subject as PyTorch runs them, and as graphs where wanted.

    Args:
        plan (CellPlan): Where.
        scale (Scale): Device, stand-ins for architectures.

    Returns:
        Subjects: DeiT, ViM, MambaScope at three exit ratios, ViM on
        mamba-ssm's kernels, graphs; ViM alone unless the architecture is
        'small'.
    """
    arch, side, device = scale.arch(plan.arch), plan.resolution, scale.device
    small = plan.arch == 'small'
    field = make_subjects(
        arch,
        side,
        device=device,
        exit_ratios=EXIT_RATIOS if small else (),
        deit_arch=scale.deit,
    )
    if not small:
        return Subjects([one for one in field.subjects if one.kind == VIM])
    found, absent = list(field.subjects), dict(field.absent)
    draw = images_of(side, torch.float32, device)
    if reason := why_no_rival():
        absent[RIVAL] = reason
    else:
        rival = with_rival_mixers(build_vim(arch, side))
        found.append(plain(RIVAL, cast(rival, torch.float32, device), draw))
    if plan.graphs:
        found += graph_subjects(plan, scale, draw)
    return Subjects(found, absent)


def plain(
    name: str, model: nn.Module, draw: Callable[[int], Tensor]
) -> Subject:
    """Make a subject of a model that runs as it is.

    Args:
        name (str): Its name, also its kind.
        model (nn.Module): In evaluation mode, on its device.
        draw (Callable): Number of images to images.

    Returns:
        Subject: Without a forced exit ratio.
    """

    def make(batch: int) -> Run:
        return forward_run(model, draw(batch))

    return Subject(name, name, make, weight_bytes=weight_bytes(model))


def compiled_subjects(plan: CellPlan, scale: Scale) -> Subjects:
    """Line models up, eager and compiled.

    Args:
        plan (CellPlan): Where, and which models.
        scale (Scale): Device, compiler.

    Returns:
        Subjects: Each model twice.
    """
    arch, side, device = scale.arch(plan.arch), plan.resolution, scale.device
    draw = images_of(side, torch.float32, device)
    builders = {
        VIM: partial(build_vim, arch, side),
        DEIT: partial(build_deit, scale.deit or arch, side),
    }
    # What the cells before compiled is of no use any more, and counts.
    torch._dynamo.reset()
    found, absent = [], {}
    for name in plan.compiled:
        if name == DEIT and (reason := why_no_deit()):
            absent[DEIT] = reason
            continue
        model = cast(builders[name](), torch.float32, device)
        compiled = torch.compile(model, backend=scale.compiler, dynamic=False)
        found.append(plain(name, model, draw))
        found.append(plain(f'{name}, compiled', compiled, draw))
    return Subjects(found, absent)
