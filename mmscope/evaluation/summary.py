"""What a sweep says, as text for a terminal."""

from __future__ import annotations

from mmscope.evaluation.sweep_result import SweepResult
from mmscope.runtime import ExitChoice, result_sentence


def summary(result: SweepResult) -> str:
    """Write what people want to read.

    Args:
        result (SweepResult): The sweep.

    Returns:
        str: Table and, for a gated model, what the confidence knows.
    """
    lines = [result.table()]
    if result.variants:
        lines.append(result.variants_table())
    if not result.confidence:
        return '\n'.join(lines)
    if 'calibration' in result.meta:
        lines.append(_calibrated(result.meta['calibration']))
    if 'chosen' in result.meta:
        lines.append(_chosen(result))
    for name, found in result.confidence['scores'].items():
        gain = found['gain']
        lines.append(
            f'gain of an image from refinement, {name}: mean '
            f'{_signed(found["mean_gain"])} points; correlation with the '
            f'confidence {_signed(gain["pearson"])}, by rank '
            f'{_signed(gain["spearman"])} (negative: it knows who gains)'
        )
    order = result.confidence['order_quality']
    lines.append(f'order of exits: {_signed(order)} (0: random, 1: the best)')
    lines += [
        f'with confidence={kind["kind"]!r}: correlation '
        f'{_signed(kind["pearson"])}, by rank {_signed(kind["spearman"])}, '
        f'order {_signed(kind["order_quality"])}'
        for kind in result.confidence['kinds']
    ]
    return '\n'.join(lines)


def _chosen(result: SweepResult) -> str:
    """Say what was chosen, and what it gives on the reported split."""
    chosen = dict(result.meta['chosen'])
    row, same = chosen.pop('reported'), chosen.pop('same_images')
    found = result_sentence(row, result.score)
    remark = ' (the very images that it was chosen on)' if same else ''
    return (
        f'{ExitChoice(**chosen).sentence()}; {found} on '
        f'{result.meta["split"]}{remark}'
    )


def _calibrated(found: dict) -> str:
    """Say which temperature was fitted, and what it did there."""
    same = ' (the very images reported here)' if found['same_images'] else ''
    return (
        f'temperature {found["temperature"]:.4g} of the coarse prediction, '
        f'fitted to {found["num_images"]} images of {found["split"]}{same}: '
        f'ECE {found["ece_before"]:.2f} -> {found["ece"]:.2f} %, negative '
        f'log-likelihood {found["nll_before"]:.4g} -> {found["nll"]:.4g}'
    )


def _signed(value: float | None) -> str:
    return 'undefined' if value is None else f'{value:+.3f}'
