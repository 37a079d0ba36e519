"""What a classifier puts between backbone and prediction."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from mmscope.models.heads.confidence import check_confidence
from mmscope.models.layers import in_evaluation
from mmscope.models.scoping.gate import HostGate
from mmscope.models.scoping.head_meaning import inherits
from mmscope.models.scoping.two_stage import TwoStage

# Not 2 or 3, which heads for two tokens would take for those.
VECTORS = 4
INSTEAD = (
    ': put what it does into the neck or the head, or let '
    'backbone.exit_head decide'
)


def check_path(backbone: TwoStage, gate: HostGate) -> None:
    """Refuse a host that does not predict as its gate would judge.

    The gate hands the coarse vector to the host's neck and head. It is tried
    once, on zeros.

    Raises:
        ValueError: If the host has no head, predicts from maps or in a way
            of its own, or its neck and head make no logits of a vector.
    """
    host = gate.owner
    name = type(host).__name__
    if backbone.out_type != 'cls_token':
        raise ValueError(
            f'{name} predicts from what {backbone.out_type!r} gives, and its '
            'gate would judge a vector: set backbone.out_type='
            "'cls_token', or let backbone.exit_head decide"
        )
    _refuse_own_way(host)
    logits = _try(backbone, gate)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = getattr(logits, 'shape', type(logits).__name__)
        raise ValueError(
            f'neck and head of {name} make {found} of {VECTORS} vectors, '
            f'expected logits ({VECTORS}, classes){INSTEAD}'
        )
    check_confidence(gate.kind, gate.meaning, logits.shape[1])


def _refuse_own_way(host: nn.Module) -> None:
    hosts = sys.modules.get('mmpretrain.models.classifiers')
    base = getattr(hosts, 'ImageClassifier', None)
    if base is None or not isinstance(host, base):
        return
    if not inherits(type(host), base, 'extract_feat', 'predict'):
        raise ValueError(
            f'{type(host).__name__} has an extract_feat or predict of its '
            f'own, which the gate would not run{INSTEAD}'
        )


@torch.no_grad()
def _try(backbone: TwoStage, gate: HostGate) -> object:
    neck = getattr(gate.owner, 'neck', None)
    parts = [p for p in (neck, gate.head) if isinstance(p, nn.Module)]
    owners: list[nn.Module] = [*parts, backbone]
    like = next(param for part in owners for param in part.parameters())
    vectors = like.new_zeros(VECTORS, backbone.summary_dims)
    try:
        # Statistics must not move, and no dropout draw a number.
        with in_evaluation(*parts):
            return gate.logits(vectors)
    except Exception as error:
        raise ValueError(
            f'neck and head of {type(gate.owner).__name__} cannot judge '
            f'vectors of the backbone, {tuple(vectors.shape)} '
            f'({type(error).__name__}: {error}){INSTEAD}'
        ) from error
