"""Files of weights: read without running what they hold."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmengine.runner import CheckpointLoader

from mmscope.whole_files import write_whole

# Logged values lie in checkpoints as NumPy numbers. MMEngine's list of safe
# types lacks some of their dtypes and would fall back to full unpickling.
if hasattr(torch.serialization, 'add_safe_globals'):
    torch.serialization.add_safe_globals(
        [type(np.dtype(code)) for code in '?bBhHiIlLefd']
    )
# Before names: DDP, averages; inside: torch.compile, FSDP, recomputation.
WRAPPERS = re.compile(
    r'^(module\.)+|(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)'
    r'\.'
)


def write_plain(path: str | Path, content: dict[str, Any]) -> None:
    """Write a file that :func:`read_plain` reads, see :func:`write_whole`.

    The same content is the same bytes: of a path torch would write the name
    into the file.

    Args:
        path (str | Path): File.
        content (dict): As torch saves it.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue())


def read_plain(path: str | Path, map_location: Any = 'cpu') -> Any:
    """Read a file of torch.save as plain values (``weights_only``).

    torch before 2.5 has no list of safe types: there, and from addresses,
    MMEngine reads, which unpickles what is not plain.

    Args:
        path (str | Path): File, or an address that MMEngine can read.
        map_location (Any): See ``torch.load``. Defaults to 'cpu'.

    Returns:
        Any: What it holds.

    Raises:
        UnpicklingError: If only unpickling, which can run code, would do.
    """
    if '://' in str(path):
        return CheckpointLoader.load_checkpoint(str(path), map_location)
    allow = getattr(torch.serialization, 'safe_globals', None)
    if allow is None:
        return mmengine_checkpoint.load_from_local(str(path), map_location)
    # onedl-mmengine tells which types its checkpoints hold.
    types: list[Any] = getattr(
        mmengine_checkpoint, 'get_torch_safe_globals', list
    )()
    with allow(types):
        path = Path(path).expanduser()
        return torch.load(path, map_location, weights_only=True)


def strip_wrappers(state_dict: dict[str, Any]) -> None:
    """Take out of names what DDP, averages and compilers put there.

    Args:
        state_dict (dict[str, Any]): Changed in place, in its order.
    """
    names = {key: WRAPPERS.sub('', key) for key in state_dict}
    if len(set(names.values())) < len(names):
        # Two parts of one name: wrappers are not all that differs.
        return
    for key, name in names.items():
        state_dict[name] = state_dict.pop(key)
