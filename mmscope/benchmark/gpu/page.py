"""The measured half of docs/results/gpu.md."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from mmscope.benchmark.gpu.cases import SCAN
from mmscope.benchmark.gpu.record import Record
from mmscope.benchmark.gpu.report import Predict, measured_section

# A module with ``CARDS`` (names that a card's own name contains) and
# ``predict(card)``: rows with ``model``, ``part``, ``batch``, ``seqlen``,
# ``dim``, ``d_state`` and ``milliseconds`` of one layer's scan of both
# directions in bfloat16.
PREDICTIONS = 'mmscope.benchmark.gpu_predictions'
MODELS = {False: 'ViM-S', True: 'MambaScope-S'}
PLACE = ('model', 'part', 'batch', 'seqlen', 'dim', 'd_state')


def predictor(device: str) -> Predict:
    """Look predictions up, where there are any.

    Args:
        device (str): Name of the GPU, as PyTorch gives it.

    Returns:
        Callable: Row of an operator to predicted microseconds or None.
    """
    if find_spec(PREDICTIONS) is None:
        return lambda row: None
    module = import_module(PREDICTIONS)
    card = next((name for name in module.CARDS if name in device), None)
    if card is None:
        return lambda row: None
    found = {
        tuple(getattr(one, key) for key in PLACE): 1e3 * one.milliseconds
        for one in module.predict(card)
    }

    def predict(row: dict) -> float | None:
        if row['op'] != SCAN:
            return None
        sizes = (row[key] for key in PLACE[2:])
        return found.get((MODELS[row['scored']], row['run'], *sizes))

    return predict


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
