"""What a sweep scores, says of itself, and chooses."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn
from torch.utils.data import DataLoader

from mmscope.evaluation.curves import operating_point
from mmscope.evaluation.endpoint_images import EndpointImages
from mmscope.evaluation.exit_endpoints import score_variants
from mmscope.evaluation.sweep_meta import ChosenThreshold, SweepMeta
from mmscope.evaluation.tables import to_records
from mmscope.evaluation.tasks import default_score
from mmscope.evaluation.threshold_choice import choose_threshold
from mmscope.evaluation.variants import Variant
from mmscope.inference.progress import watched
from mmscope.runtime import ExitChoice


def score_split(
    args: argparse.Namespace,
    model: nn.Module,
    loader: DataLoader,
    variants: Sequence[Variant] = (Variant(),),
) -> list[EndpointImages]:
    """Score a split at both exits, once a variant."""
    # Of this loader: a detector's score knows the objects of its images.
    score = default_score(model, loader)
    batches = watched(loader, 'scoring')
    return score_variants(model, batches, score, variants, args.convention)


def describe(
    args: argparse.Namespace, model: nn.Module, images: EndpointImages
) -> SweepMeta:
    """Say what was swept, without folders of this machine."""
    return SweepMeta(
        name=args.name or Path(args.config).stem,
        config=shown(args.config),
        checkpoint=Path(args.checkpoint).name,
        split=args.split,
        num_images=len(images.table),
        params=sum(p.numel() for p in model.parameters()),
        seed=args.seed,
    )


def choose(
    args: argparse.Namespace,
    model: nn.Module,
    loaders: dict[str, DataLoader],
    reported: EndpointImages,
) -> ChosenThreshold:
    """Choose a threshold on one split, and save it where that is asked for."""
    images = reported
    if args.choose_on != args.split:
        (images,) = score_split(args, model, loaders[args.choose_on])
    threshold = choose_threshold(images, args.target_flops, args.max_drop)
    by_flops = args.target_flops is not None
    choice = ExitChoice(
        exit_threshold=threshold,
        confidence=model.backbone.gate.kind,
        target='target_flops' if by_flops else 'max_drop',
        limit=args.target_flops if by_flops else args.max_drop,
        split=args.choose_on,
        expected=point_at(images, threshold),
        score=images.scored.name,
        convention=args.convention,
        num_images=len(images.table),
        config=shown(args.config),
        checkpoint=Path(args.checkpoint).name,
        temperature=model.backbone.gate.temperature,
    )
    if args.save_threshold:
        choice.write(args.save_threshold)
    return ChosenThreshold(
        **vars(choice),
        reported=point_at(reported, threshold),
        same_images=images.table['name'].equals(reported.table['name']),
    )


def point_at(images: EndpointImages, threshold: float) -> dict[str, Any]:
    """Evaluate one threshold, as JSON holds it."""
    point = operating_point(images, images.confidence >= threshold)
    (row,) = to_records(pd.DataFrame([{'threshold': threshold, **point}]))
    return row


def shown(path: str) -> str:
    """Shorten a path for a report: no folders of this machine."""
    full = Path(path).resolve()
    inside = full.is_relative_to(Path.cwd())
    return str(full.relative_to(Path.cwd())) if inside else full.name
