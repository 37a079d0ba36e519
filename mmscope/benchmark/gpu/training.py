"""A step of training: forward, backward, optimizer."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmscope.benchmark.gpu.models import builders, cell_step
from mmscope.benchmark.gpu.scale import CellPlan, Scale
from mmscope.benchmark.gpu.steps import Step
from mmscope.benchmark.models import CLASSES, BenchmarkModel
from mmscope.benchmark.subjects import Subject, Subjects, weight_bytes
from mmscope.evaluation.interleaved_timing import Run
from mmscope.models.losses import coarse_fine_kl

BUDGET_S, LIMIT_S = 12.0, 60.0


def training_steps(scale: Scale) -> Iterator[Step]:
    """List the one cell, in which everybody takes part."""
    batch = scale.training_batch
    plan = CellPlan('small', scale.side, batch, budget_s=BUDGET_S)
    yield cell_step(plan, training_subjects, scale, LIMIT_S)


def training_subjects(plan: CellPlan, scale: Scale) -> Subjects:
    """Line up ViM, MambaScope, DeiT and ViM on mamba-ssm's kernels.

    Runs are whole steps; MambaScope trains both stages, regions selected.
    """
    build, absent = builders(plan, scale)
    found = [
        _subject(name, make(), plan.resolution, scale.device)
        for name, make in build.items()
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
    """Return a run of one step on images (B, 3, H, W) and labels (B,).

    To be run under autocast; the backward and the optimizer's step leave it.
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

    Cross entropy of the last stage, and the divergence of the coarse
    prediction from it (Eq. 21).
    """
    feats = model.backbone(images)
    logits = model.head(feats)
    loss = F.cross_entropy(logits.float(), labels)
    if len(feats) > 1:
        coarse = model.head(feats[:1])
        loss = loss + coarse_fine_kl(coarse, logits)
    return loss
