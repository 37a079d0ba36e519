"""What people want to read of one sweep, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from mmscope.evaluation.report import Comparison
from mmscope.evaluation.sweep_result import SweepResult
from mmscope.runtime import result_sentence


def summary(result: SweepResult) -> str:
    """Write the curve, what was fitted and chosen, and the confidence."""
    alone = Comparison({result.meta.name or 'model': result})
    sections = (alone.variants(), alone.quality(), alone.kinds())
    tables = [one.table for one in sections if len(one.frame)]
    return '\n\n'.join([result.table(), *_remarks(result), *tables])


def _remarks(result: SweepResult) -> Iterator[str]:
    """Say which temperature was fitted, and which threshold chosen."""
    fit, chosen = result.meta.calibration, result.meta.chosen
    if fit is not None:
        same = ' (the very images reported here)' if fit.same_images else ''
        yield (
            f'temperature {fit.temperature:.4g} of the coarse prediction, '
            f'fitted to {fit.num_images} images of {fit.split}{same}: '
            f'ECE {fit.ece_before:.2f} -> {fit.ece:.2f} %, negative '
            f'log-likelihood {fit.nll_before:.4g} -> {fit.nll:.4g}'
        )
    if chosen is not None:
        same = chosen.same_images
        remark = ' (the very images that it was chosen on)' if same else ''
        yield (
            f'{chosen.sentence()}; '
            f'{result_sentence(chosen.reported, result.score)} on '
            f'{result.meta.split}{remark}'
        )
