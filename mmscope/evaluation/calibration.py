"""One temperature that makes coarse predictions say how sure they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from torch import Tensor, nn

from mmscope.evaluation.classification import NUM_BINS, bin_index
from mmscope.evaluation.exit_endpoints import evaluating
from mmscope.evaluation.sweep_meta import FittedTemperature
from mmscope.models import TwoStage, attach_gate
from mmscope.models.heads.confidence import MAP
from mmscope.models.layers import unwrap_model
from mmscope.models.losses import (
    has_boxes,
    ignored_label,
    label_map,
    map_targets,
    multi_label_targets,
)
from mmscope.models.scoping import find_backbone

# Where a temperature is looked for.
LOWEST, HIGHEST = 0.01, 100.0
# Rows that are in float64 at a time.
CHUNK = 1 << 14


def calibrate(
    model: nn.Module, dataloader: Iterable
) -> tuple[FittedTemperature, list[str]]:
    """Fit the temperature of a model's gate to a data set, and set it.

    The deciding prediction counts: the classes of the host's head, the
    presence of classes of an exit head, or its map where the gate decides by
    'map'. The coarse stage runs once over the data; logits and targets
    are kept in float32, 8 bytes for each image and class (map: cell and
    class).

    Returns:
        tuple: What was fitted, and the images that it was fitted to.

    Raises:
        ValueError: If the model has no early exit or the data no labels, or
            no temperature fits, see :func:`fit_temperature`.
        RuntimeError: If the exit head was never trained.
    """
    backbone = attach_gate(model)
    backbone.gate.check_trained()
    host, names, pairs = unwrap_model(model), [], []
    with evaluating(model):
        for batch in dataloader:
            data = host.data_preprocessor(batch, False)
            samples = data['data_samples']
            pairs.append(_predicted(host, data['inputs'], samples))
            names += [str(s.metainfo.get('img_path', '')) for s in samples]
    if not pairs:
        raise ValueError('the data loader gave no batch to calibrate on')
    logits, targets = map(torch.cat, zip(*pairs, strict=True))
    meaning = _meaning(backbone)
    temperature = fit_temperature(logits, targets, meaning)
    backbone.gate.temperature = temperature
    fitted = FittedTemperature(
        temperature,
        nll_before=mean_nll(logits, targets, meaning),
        nll=mean_nll(logits, targets, meaning, temperature),
        ece_before=calibration_error(logits, targets, meaning),
        ece=calibration_error(logits, targets, meaning, temperature),
        num_images=len(names),
    )
    return fitted, names


def fit_temperature(logits: Tensor, targets: Tensor, meaning: str) -> float:
    """Find the T that minimises the negative log-likelihood of logits / T.

    Guo et al., On Calibration of Modern Neural Networks, section 4.2. The
    likelihood is convex in 1 / T, so that its slope has one root, found in
    float64 and the same each time.

    Args:
        logits (Tensor): (m, C).
        targets (Tensor): 'softmax': shares that sum to 1, one-hot for a
            label; 'multi_label': 1 where a class is present, else 0. (m, C).
        meaning (str): 'softmax' or 'multi_label'.

    Returns:
        float: T in [0.01, 100].

    Raises:
        ValueError: If there is nothing to fit, logits are not finite, or the
            likelihood has no minimum there: every prediction is right, or
            they are worse than none.
    """
    if not logits.numel():
        raise ValueError('no image has labels to fit a temperature to')
    if not logits.isfinite().all():
        raise ValueError(
            'coarse logits are not finite, so no temperature fits: the '
            'weights diverged in training'
        )

    def slope(log_t: float) -> float:
        return _slope(logits, targets, meaning, math.exp(log_t))

    low, high = math.log(LOWEST), math.log(HIGHEST)
    # The slope in 1 / T falls with T.
    if slope(low) <= 0:
        raise ValueError(
            'no temperature fits: every coarse prediction is right, and the '
            f'likelihood grows down to T = {LOWEST}; calibrate on images '
            'that the model was not trained on, and on more of them'
        )
    if slope(high) >= 0:
        raise ValueError(
            'no temperature fits: coarse predictions say less than a guess, '
            f'and the likelihood grows up to T = {HIGHEST}; is it the right '
            'checkpoint, and are the classes in its order?'
        )
    return math.exp(brentq(slope, low, high, xtol=1e-12))


def mean_nll(
    logits: Tensor, targets: Tensor, meaning: str, temperature: float = 1.0
) -> float:
    """Compute the mean negative log-likelihood."""
    softmax, total = meaning == 'softmax', 0.0
    for some, wanted in _chunks(logits, targets):
        if softmax:
            total -= (wanted * (some / temperature).log_softmax(-1)).sum()
        else:
            total += F.binary_cross_entropy_with_logits(
                some / temperature, wanted, reduction='sum'
            )
    return float(total) / (len(logits) if softmax else logits.numel())


def calibration_error(
    logits: Tensor, targets: Tensor, meaning: str, temperature: float = 1.0
) -> float:
    """Compute the expected calibration error in 15 equal bins.

    Guo et al., Eq. 3. A softmax is judged by the largest probability and the
    share of that class in the target; independent logits by each
    probability and whether the class is there.
    """
    gaps, number = np.zeros(NUM_BINS), 0
    for some, right in _chunks(logits, targets):
        if meaning == 'softmax':
            sure, chosen = (some / temperature).softmax(-1).max(-1)
            right = right.gather(-1, chosen[:, None])[:, 0]
        else:
            sure = (some / temperature).sigmoid().flatten()
            right = right.flatten()
        bins = bin_index(sure.numpy(force=True))
        gap = (right - sure).numpy(force=True)
        gaps += np.bincount(bins, gap, NUM_BINS)
        number += len(sure)
    return float(100 * np.abs(gaps).sum() / number)


def _slope(
    logits: Tensor, targets: Tensor, meaning: str, temperature: float
) -> float:
    """Slope of the likelihood's negative logarithm in 1 / T."""
    total = 0.0
    for some, wanted in _chunks(logits, targets):
        scaled = some / temperature
        softmax = meaning == 'softmax'
        probs = scaled.softmax(-1) if softmax else scaled.sigmoid()
        total += float(((probs - wanted) * some).sum())
    return total


def _chunks(
    logits: Tensor, targets: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give some rows after the other in float64."""
    pairs = zip(logits.split(CHUNK), targets.split(CHUNK), strict=True)
    return ((some.double(), wanted.double()) for some, wanted in pairs)


def _meaning(backbone: TwoStage) -> str:
    by_map = backbone.gate.kind == MAP
    return 'softmax' if by_map else backbone.gate.meaning


def _predicted(
    host: nn.Module, imgs: Tensor, samples: Sequence[Any]
) -> tuple[Tensor, Tensor]:
    """Deciding logits and targets of what has labels, (m, C) float32."""
    backbone, ignored = find_backbone(host), ignored_label(host)
    gate, coarse = backbone.gate, backbone.forward_coarse(backbone.pad(imgs))
    if gate.kind == MAP:
        logits = gate.map_logits(coarse.tokens)
        scales = [_input_scale(sample) for sample in samples]
        targets = map_targets(
            backbone, coarse.grid, samples, scales, ignored=ignored
        )
    else:
        logits = gate.logits(coarse.cls)
        targets = multi_label_targets(
            samples, logits.shape[-1], ignored=ignored
        )
    logits = logits.float().cpu().flatten(0, -2)
    targets = targets.float().cpu().flatten(0, -2)
    known = ~targets.isnan().any(-1)
    if _meaning(backbone) == 'softmax' and gate.kind != MAP:
        _check_single(targets[known])
    return logits[known], targets[known]


def _check_single(targets: Tensor) -> None:
    if not (targets.sum(-1) == 1).all():
        raise ValueError(
            'a softmax is calibrated on images with one label each, got '
            f'{int(targets.sum(-1).max())} classes in an image'
        )


def _input_scale(sample: Any) -> tuple[float, float]:
    """Pixels of the input for one of the annotation, (rows, columns).

    Test pipelines load annotations after resizing: label maps say how large
    they are, boxes are those of the original image. By how much that was
    resized, the pipeline notes; the input's size may hold padding.
    """
    meta = sample.metainfo
    annotated = seen = meta['ori_shape']
    if 'gt_sem_seg' in sample and not has_boxes(sample):
        annotated = label_map(sample).shape
    if 'scale_factor' in meta and tuple(annotated) == tuple(seen):
        columns, rows = meta['scale_factor'][:2]
        return rows, columns
    seen = meta['img_shape']
    return seen[0] / annotated[0], seen[1] / annotated[1]
