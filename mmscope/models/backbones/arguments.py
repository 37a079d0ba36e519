"""Validation of the backbones' constructor arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from mmscope.models.layers.settings import check_whole

# ViM (arXiv:2401.09417), Table 1.
ARCHS = {
    'tiny': {'embed_dims': 192, 'num_layers': 24},
    'small': {'embed_dims': 384, 'num_layers': 24},
    'base': {'embed_dims': 768, 'num_layers': 24},
}
Size = int | Callable[[int], int]
# What an arch may leave out: a size, or one that follows from embed_dims.
ARCH_DEFAULTS: dict[str, Size] = {
    'd_state': 16,
    'd_conv': 4,
    'expand': 2,
    'dt_rank': lambda embed_dims: math.ceil(embed_dims / 16),
}


def to_2tuple(size: int | Sequence[int]) -> tuple[int, int]:
    """Turn a side or (height, width) into (height, width).

    Raises:
        ValueError: If it is neither.
    """
    sides = (size, size) if isinstance(size, Integral) else size
    if not isinstance(sides, Sequence) or len(sides) != 2:
        raise ValueError(f'expected a side or (height, width), got {size!r}')
    height, width = (check_whole('a side', side) for side in sides)
    return height, width


def check_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise."""
    if value not in choices:
        raise ValueError(f'{name} must be one of {choices}, got {value!r}')
    return value


def check_stride(stride: int | None, patch_size: int) -> int:
    """Return the pixels between patches, ``patch_size`` where None.

    Raises:
        ValueError: If pixels between patches would be left out.
    """
    patch_size = check_whole('patch_size', patch_size)
    stride = patch_size if stride is None else stride
    if check_whole('patch_stride', stride) > patch_size:
        raise ValueError(
            f'patch_stride must lie in [1, patch_size={patch_size}], got '
            f'{stride}'
        )
    return stride


def resolve_arch(
    arch: str | dict[str, Any],
    archs: dict[str, dict[str, int]] = ARCHS,
    defaults: dict[str, Size] = ARCH_DEFAULTS,
) -> dict[str, int]:
    """Complete an architecture's settings.

    Args:
        arch (str | dict): Name, or a dict of sizes.
        archs (dict[str, dict]): Sizes by name. Defaults to ViM's.
        defaults (dict[str, Size]): What a dict may leave out. Defaults to
            ViM's.

    Returns:
        dict: A new dict with every size.

    Raises:
        ValueError: If the name is unknown, a key is missing or unknown.
    """
    if isinstance(arch, str):
        if arch not in archs:
            raise ValueError(
                f'arch must be one of {tuple(archs)} or a dict, got {arch!r}'
            )
        arch = archs[arch]
    if not isinstance(arch, dict):
        raise ValueError(
            f'arch must be one of {tuple(archs)} or a dict, got {arch!r}'
        )
    missing = {'embed_dims', 'num_layers'} - set(arch)
    unknown = set(arch) - {'embed_dims', 'num_layers', *defaults}
    if missing or unknown:
        raise ValueError(
            f'arch {dict(arch)} lacks {sorted(missing)} and has unknown keys '
            f'{sorted(unknown)}; it takes embed_dims, num_layers and '
            f'optionally {", ".join(defaults)}'
        )
    given = {
        name: check_whole(f'arch {name}', size)
        for name, size in arch.items()
        if size is not None or name in ('embed_dims', 'num_layers')
    }
    return {
        name: size(given['embed_dims']) if callable(size) else size
        for name, size in {**defaults, **given}.items()
    }


def resolve_indices(
    name: str, indices: int | Sequence[int], num_layers: int
) -> tuple[int, ...]:
    """Turn block indices into a sorted tuple of non-negative ones.

    Args:
        name (str): Of the setting.
        indices (int | Sequence[int]): Indices, negative ones count from the
            end.
        num_layers (int): Number of blocks.

    Returns:
        tuple[int, ...]: The indices, ascending.

    Raises:
        ValueError: If one is out of range, doubled, or none is given.
    """
    wanted: Any = (indices,) if isinstance(indices, Integral) else indices
    if not isinstance(wanted, Sequence) or not all(
        isinstance(i, Integral) and not isinstance(i, bool) for i in wanted
    ):
        raise ValueError(
            f'{name} must be whole numbers, or one, got {indices!r}'
        )
    wanted = tuple(wanted)
    resolved = tuple(i + num_layers if i < 0 else i for i in wanted)
    bad = [i for i in resolved if not 0 <= i < num_layers]
    if bad or not resolved or list(resolved) != sorted(set(resolved)):
        raise ValueError(
            f'{name} must be ascending, without repeats and inside '
            f'[{-num_layers}, {num_layers}) for {num_layers} layers, '
            f'got {wanted}'
        )
    return resolved
