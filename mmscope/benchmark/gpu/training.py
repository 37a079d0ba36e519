"""A step of training: forward, backward, optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmscope.benchmark.gpu.models import RIVAL, measure
from mmscope.benchmark.gpu.rival import (
    MODULE,
    why_no_rival,
    with_rival_mixers,
)
from mmscope.benchmark.gpu.scale import CellPlan, Scale
from mmscope.benchmark.gpu.stand_in import stand_in
from mmscope.benchmark.gpu.steps import Step
from mmscope.benchmark.models import (
    CLASSES,
    DEIT,
    SCOPE,
    VIM,
    BenchmarkModel,
    build_deit,
    build_scope,
    build_vim,
    why_no_deit,
)
from mmscope.benchmark.subjects import Subject, Subjects, weight_bytes
from mmscope.evaluation.interleaved_timing import Run
from mmscope.models.losses import coarse_fine_kl

BUDGET_S, LIMIT_S = 12.0, 60.0


def training_steps(scale: Scale) -> Iterator[Step]:
    """List the timing of training steps.

    Args:
        scale (Scale): Batch and device.

    Yields:
        Step: One, in which everybody takes part.
    """
    plan = CellPlan(
        'small', scale.side, scale.training_batch, budget_s=BUDGET_S
    )
    yield Step(plan.name, partial(_race, plan, scale), LIMIT_S)


def _race(plan: CellPlan, scale: Scale, left: float) -> list[dict]:
    with stand_in(MODULE, scale.dry_run):
        with scale.device:
            field = training_subjects(plan, scale)
        return measure(plan, field, scale, min(plan.budget_s, left))


def training_subjects(plan: CellPlan, scale: Scale) -> Subjects:
    """Line up ViM, MambaScope, DeiT and ViM on mamba-ssm's kernels.

    Args:
        plan (CellPlan): Where.
        scale (Scale): Device, stand-ins for architectures.

    Returns:
        Subjects: Runs are whole steps; MambaScope trains both stages, fine
        regions selected.
    """
    arch, side = scale.arch(plan.arch), plan.resolution
    builders: dict[str, Callable[[], nn.Module]] = {
        VIM: partial(build_vim, arch, side),
        SCOPE: partial(build_scope, arch, side),
    }
    absent = {}
    if reason := why_no_deit():
        absent[DEIT] = reason
    else:
        builders[DEIT] = partial(build_deit, scale.deit or arch, side)
    if reason := why_no_rival():
        absent[RIVAL] = reason
    else:
        builders[RIVAL] = lambda: with_rival_mixers(build_vim(arch, side))
    found = [
        _subject(name, build(), side, scale.device)
        for name, build in builders.items()
    ]
    return Subjects(found, absent)


def _subject(
    name: str, model: nn.Module, side: int, device: torch.device
) -> Subject:
    model.to(device).train()

    def make(batch: int) -> Run:
        images = torch.randn(batch, 3, side, side, device=device)
        labels = torch.randint(CLASSES, (batch,), device=device)
        return training_run(model, images, labels)

    return Subject(name, name, make, weight_bytes=weight_bytes(model))


def training_run(model: BenchmarkModel, images: Tensor, labels: Tensor) -> Run:
    """Return a run of one step on the same images.

    Args:
        model (BenchmarkModel): In training mode, on its device.
        images (Tensor): (B, 3, H, W).
        labels (Tensor): (B,) int64.

    Returns:
        Callable: Forward and losses, to be run under autocast; the backward
        and the optimizer's step leave it.
    """
    fused = images.device.type == 'cuda'
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused)

    def run() -> None:
        loss = losses(model, images, labels)
        # PyTorch asks for the backward outside of autocast.
        with torch.autocast(images.device.type, enabled=False):
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return run


def losses(model: BenchmarkModel, images: Tensor, labels: Tensor) -> Tensor:
    """Compute the loss of a classifier, of both stages where there are two.

    Args:
        model (BenchmarkModel): In training mode.
        images (Tensor): (B, 3, H, W).
        labels (Tensor): (B,) int64.

    Returns:
        Tensor: Scalar: cross entropy of the last stage, and the divergence
        of the coarse prediction from it (Eq. 21).
    """
    feats = model.backbone(images)
    logits = model.head(feats)
    loss = F.cross_entropy(logits.float(), labels)
    if len(feats) > 1:
        coarse = model.head(feats[:1])
        loss = loss + coarse_fine_kl(coarse, logits)
    return loss
