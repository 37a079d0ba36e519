"""Checkpoints that are checked before they are used."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmscope.errors import UserError
from mmscope.models.backbones.weights_file import read_plain, strip_wrappers


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint, or say why that is impossible.

    A file is read as plain values (``weights_only``), before MMEngine, which
    would unpickle what is not. torch before 2.5 has no list of safe types:
    there a training's checkpoint is unpickled as MMEngine does.

    Args:
        path (str | Path): File, or an address that MMEngine can read.

    Returns:
        dict: With ``state_dict``, without what wrappers add to names; of a
        plain state dict with that alone.

    Raises:
        UserError: If the file is absent, damaged, no checkpoint, or holds
            objects that only unpickling would load.
    """
    if '://' not in str(path):
        path = Path(path).expanduser()
    if Path(path).is_dir():
        raise UserError(
            f'checkpoint {path} is a folder: give a .pth file in it; a '
            'published model is given alone, without a config, as MODEL of '
            'mmscope infer or to mmscope.from_pretrained'
        )
    if '://' not in str(path) and not Path(path).is_file():
        raise UserError(
            f'checkpoint {Path(path).absolute()} does not exist: give the '
            'path of a .pth file, such as work_dirs/CONFIG/iter_160000.pth'
        )
    try:
        checkpoint = read_plain(path)
    except Exception as error:
        raise UserError(
            f'checkpoint {path} {_trouble(error, path)}'
        ) from error
    if isinstance(checkpoint, dict) and _is_state_dict(checkpoint):
        checkpoint = {'state_dict': checkpoint}
    if not isinstance(checkpoint, dict) or 'state_dict' not in checkpoint:
        held = ''
        if isinstance(checkpoint, dict):
            held = f' {sorted(map(str, checkpoint))}'
        raise UserError(
            f'checkpoint {path} holds {type(checkpoint).__name__}{held}, '
            "expected a dict with 'state_dict'. Released ViM weights "
            'convert by `mmscope convert`'
        )
    weights = checkpoint['state_dict']
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) for name in weights
    ):
        raise UserError(
            f"'state_dict' of checkpoint {path} is {type(weights).__name__}, "
            'expected a dict of tensors by name'
        )
    strip_wrappers(weights)
    return checkpoint


def _is_state_dict(content: dict) -> bool:
    return bool(content) and all(
        isinstance(value, Tensor) for value in content.values()
    )


@contextmanager
def reading_plain() -> Iterator[None]:
    """Let MMEngine read files as :func:`read_checkpoint` does.

    It loads weights by itself where an ``init_cfg`` names a file, from
    ``load_from`` and to resume: inside it gets names without what wrappers
    add, and plain values alone.

    Yields:
        None: Models are initialised and runners load in the block.
    """

    # MMEngine logs what follows 'load_from_' as the place.
    def load_from_local(path: str, map_location: Any = None) -> Any:
        content = read_plain(path, map_location)
        if isinstance(content, dict):
            strip_wrappers(content.get('state_dict', content))
        return content

    before = CheckpointLoader._get_checkpoint_loader('')
    CheckpointLoader.register_scheme('', loader=load_from_local, force=True)
    try:
        yield
    finally:
        CheckpointLoader.register_scheme('', loader=before, force=True)


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """Find the checkpoint that an interrupted training goes on from.

    MMEngine notes its path in ``last_checkpoint``. A run that is killed
    while it writes leaves that note damaged or absent, and the newest file
    perhaps incomplete; in a folder that was moved or copied it is of another
    place, where another run may be by now. So what lies in the folder itself
    counts: the complete file of that name, then the one of the highest step.

    Args:
        work_dir (str | Path): Work directory of the training.

    Returns:
        str | None: Path; None if there is none.
    """
    folder, note = Path(work_dir), Path(work_dir) / 'last_checkpoint'
    # What is damaged may be no text.
    text = os.fsdecode(note.read_bytes()) if note.is_file() else ''
    noted = Path(text.strip())
    if noted.name not in ('', '..') and _is_whole(folder / noted.name):
        return str(folder / noted.name)
    # The `out_dir` of MMEngine's hook gets a folder of the same name, and no
    # note: one that has it is of another run.
    same = noted.parent.name == Path(os.path.abspath(folder)).name
    other = os.path.exists(noted.parent / note.name)
    if noted.name and same and not other and _is_whole(noted):
        return str(noted)
    found = _furthest(folder)
    return None if found is None else str(found)


def _is_whole(path: Path) -> bool:
    # A sharded checkpoint is a folder.
    return os.path.isdir(path) or _is_whole_file(path)


def _is_whole_file(path: Path) -> bool:
    # `isfile` is False for what can be no path.
    return os.path.isfile(path) and zipfile.is_zipfile(path)


def _furthest(folder: Path) -> Path | None:
    """Give the complete file of the highest step, by its name.

    Steps and epochs cannot be compared: of them the newer file.
    """
    found = []
    for kind in ('iter', 'epoch'):
        steps = {
            int(step): path
            for path in folder.glob(f'{kind}_*.pth')
            if (step := path.stem.partition('_')[2]).isdecimal()
            and _is_whole_file(path)
        }
        found += [steps[max(steps)]] if steps else []
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


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
    _refuse_other_names(model, state_dict, path)
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


def _refuse_other_names(
    model: nn.Module, state_dict: dict[str, Tensor], path: str | Path
) -> None:
    """Say what the names of a checkpoint begin with, if none fits."""
    own = model.state_dict()
    if own.keys() & state_dict.keys():
        return
    hint = 'Use the config that it was trained with'
    first = next(iter(state_dict), '')
    for part, _ in model.named_children():
        if f'{part}.{first}' in own:
            hint = (
                f'It is of the {part} alone: a training starts from it by '
                f"model.{part}.init_cfg=dict(type='Pretrained', checkpoint="
                f"'{path}')"
            )
    raise UserError(
        f'checkpoint {path} is of another model: none of its '
        f'{len(state_dict)} entries ({_some(list(state_dict))}) is one of '
        f'{type(model).__name__} ({_some(list(own))}). {hint}'
    )


def _some(keys: list[str]) -> str:
    shown = ', '.join(sorted(keys)[:3])
    return shown + (', ...' if len(keys) > 3 else '') if keys else 'none'


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [''])[0][:200]


def _trouble(error: Exception, path: str | Path) -> str:
    """Tell what only unpickling reads, what is damaged, and other files."""
    file, told = Path(path), _first_line(error)
    if file.suffix == '.safetensors':
        return (
            'is of a published model: give its folder alone, without a '
            'config, as MODEL of mmscope infer or to mmscope.from_pretrained'
        )
    whole = file.is_file() and zipfile.is_zipfile(file)
    if whole and isinstance(error, UnpicklingError):
        return (
            'holds objects that only unpickling, which can run code, would '
            f'load ({told}). If you trust it, keep its weights: python -c '
            "\"import torch; torch.save({'state_dict': torch.load("
            f"'{path}', weights_only=False)['state_dict']}}, 'PLAIN.pth')\", "
            'and give PLAIN.pth'
        )
    size = f', {file.stat().st_size:,} bytes' if file.is_file() else ''
    if not whole and isinstance(error, UnpicklingError):
        # torch only speaks of an option that would run what the file holds.
        told = 'it is none of torch'
    damage = ', damaged or incomplete' if size and not whole else ''
    return (
        f'cannot be read ({type(error).__name__}: {told}){size}{damage}: '
        'expected a file written by torch.save, such as those of '
        '`mmscope train`'
    )
