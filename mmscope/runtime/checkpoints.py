"""Checkpoints that are checked before they are used."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from mmengine.runner import CheckpointLoader
from torch import nn

from mmscope.errors import UserError

# Logged values lie in checkpoints as NumPy numbers. MMEngine's list of safe
# types lacks some of their dtypes and would fall back to full unpickling.
if hasattr(torch.serialization, 'add_safe_globals'):
    torch.serialization.add_safe_globals(
        [type(np.dtype(code)) for code in '?bBhHiIlLefd']
    )


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint, or say why that is impossible.

    Args:
        path (str | Path): File, or an address that MMEngine can read.

    Returns:
        dict: With ``state_dict``.

    Raises:
        UserError: If the file is absent, damaged or no checkpoint.
    """
    if '://' not in str(path) and not Path(path).is_file():
        raise UserError(
            f'checkpoint {Path(path).absolute()} does not exist: give the '
            'path of a .pth file, such as work_dirs/CONFIG/iter_160000.pth'
        )
    try:
        checkpoint = CheckpointLoader.load_checkpoint(
            str(path), map_location='cpu'
        )
    except Exception as error:
        raise UserError(
            f'checkpoint {path} cannot be read ({type(error).__name__}: '
            f'{_first_line(error)}){_damage(path)}: expected a file written '
            'by torch.save, such as those of tools/train.py'
        ) from error
    if not isinstance(checkpoint, dict) or 'state_dict' not in checkpoint:
        held = sorted(checkpoint) if isinstance(checkpoint, dict) else ''
        raise UserError(
            f'checkpoint {path} holds {type(checkpoint).__name__} {held}, '
            "expected a dict with 'state_dict'. Released ViM weights "
            'convert by tools/model_converters/vim_to_mmscope.py'
        )
    return checkpoint


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """Find the checkpoint that an interrupted training goes on from.

    MMEngine notes its path in ``last_checkpoint``. A run that is killed
    while it writes leaves that note empty or absent, and the newest file
    perhaps incomplete; a folder that was moved has a note of another place.
    Then it is the newest complete file.

    Args:
        work_dir (str | Path): Folder of the training.

    Returns:
        str | None: Path; None where there is no checkpoint.
    """
    folder = Path(work_dir)
    note = folder / 'last_checkpoint'
    noted = note.read_text().strip() if note.is_file() else ''
    # A sharded checkpoint is a folder.
    if noted and (Path(noted).is_dir() or zipfile.is_zipfile(noted)):
        return noted
    saved = [
        path
        for pattern in ('iter_*.pth', 'epoch_*.pth')
        for path in folder.glob(pattern)
        if zipfile.is_zipfile(path)
    ]
    newest = max(saved, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else str(newest)


def load_model_weights(model: nn.Module, path: str | Path) -> str:
    """Load a checkpoint into a model that it must fit.

    MMEngine itself loads what fits and only logs the rest, so a checkpoint
    of another model would be scored with random weights.

    Args:
        model (nn.Module): Without wrappers.
        path (str | Path): Checkpoint file.

    Returns:
        str: A sentence about entries that the model has no use for, or ''.

    Raises:
        UserError: If weights of the model are missing or differ in shape.
    """
    state_dict = dict(read_checkpoint(path)['state_dict'])
    try:
        result = model.load_state_dict(state_dict, strict=False)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f'checkpoint {path} is of another model or size: {error}. Use '
            'the config that it was trained with'
        ) from error
    missing, unused = result.missing_keys, result.unexpected_keys
    if missing:
        raise UserError(
            f'checkpoint {path} is of another model: {len(missing)} of '
            f'{len(model.state_dict())} weights of {type(model).__name__} '
            f'are not in it ({_some(missing)}), {len(unused)} of its '
            f'{len(state_dict)} entries have no place ({_some(unused)}). '
            'Use the config that it was trained with'
        )
    if not unused:
        return ''
    return f'{len(unused)} entries of {path} not used: {_some(unused)}'


def _some(keys: list[str]) -> str:
    shown = ', '.join(sorted(keys)[:3])
    return shown + (', ...' if len(keys) > 3 else '') if keys else 'none'


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [''])[0][:200]


def _damage(path: str | Path) -> str:
    """Tell an incomplete file from one that torch.save never wrote."""
    if not Path(path).is_file():
        return ''
    size = Path(path).stat().st_size
    if zipfile.is_zipfile(path):
        return f', {size:,} bytes'
    return f', {size:,} bytes, damaged or incomplete'
