"""The measured half of docs/results/gpu.md."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from mmscope.benchmark.gpu.record import Record
from mmscope.benchmark.gpu.report import Predict, measured_section

# A module with ``predicted_us(card, op, run, batch, seqlen, dim, d_state)``:
# the card's name as PyTorch gives it, 'scan' | 'conv' | 'mixer', 'forward' |
# 'training', sizes; returns microseconds in bfloat16, or None.
PREDICTIONS = 'mmscope.benchmark.gpu_predictions'
SIZES = ('op', 'run', 'batch', 'seqlen', 'dim', 'd_state')


def predictor(card: str) -> Predict:
    """Look predictions up, where there are any.

    Args:
        card (str): Name of the GPU.

    Returns:
        Callable: Row of an operator to predicted microseconds or None.
    """
    function = None
    if find_spec(PREDICTIONS) is not None:
        function = getattr(import_module(PREDICTIONS), 'predicted_us', None)
    if function is None:
        return lambda row: None
    return lambda row: function(card, *(row[key] for key in SIZES))


def page_section(path: str | Path) -> str:
    """Format what a file of measurements says.

    Args:
        path (str | Path): Of ``--gpu-first --json``; may be missing.

    Returns:
        str: Markdown; 'Not measured' without the file.

    Raises:
        RecordError: If the file holds something else.
    """
    record = Record.read(path)
    return measured_section(
        record, predictor(record.setting.get('device', ''))
    )
