"""What a backbone's weights are: stored with them, checked on loading."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmscope.models.layers import PositionTable, SummaryTokens

if TYPE_CHECKING:
    from mmscope.models.backbones.token_backbone import TokenBackbone

KEY = '_extra_state'


@dataclass(frozen=True)
class WeightsInfo:
    """The mathematics that weights were trained in, not the class.

    Attributes:
        family (str): For messages alone.
        blocks (str): 'mamba' or 'attention'.
        arch (dict): Sizes.
        summary (SummaryTokens): Summary tokens among the patches.
        average_directions (bool): Whether the mixer halves.
        img_size (tuple[int, int]): (height, width) in pixels.
        patch_size (int): Pixels.
        patch_stride (int): Pixels.
        tables (dict[str, PositionTable]): Position tables by parameter.
        rope (bool): Whether there are rotary positions, too; older entries
            do not say it. Defaults to False.
        selection (bool | None): Whether a scope refined its informative
            regions alone when they were saved; None for what has no
            selection, and in older entries. Not mathematics: a state that
            training changes, restored on loading. Defaults to None.
    """

    family: str
    blocks: str
    arch: dict[str, int]
    summary: SummaryTokens
    average_directions: bool
    img_size: tuple[int, int]
    patch_size: int
    patch_stride: int
    tables: dict[str, PositionTable]
    rope: bool = False
    selection: bool | None = None

    @classmethod
    def of(cls, backbone: TokenBackbone) -> WeightsInfo:
        """Describe a backbone."""
        return cls(
            family=backbone.family,
            blocks=backbone.blocks,
            arch=backbone.arch,
            summary=backbone.summary_tokens,
            average_directions=backbone.average_directions,
            img_size=backbone.img_size,
            patch_size=backbone.patch_size,
            patch_stride=backbone.patch_stride,
            tables=backbone.position_tables(),
            rope=backbone.rope,
            selection=backbone.selection,
        )

    def pack(self) -> Tensor:
        """Write it as JSON in a tensor, (n,) uint8.

        A tensor passes wherever weights pass: safetensors, averages,
        sharded and distributed checkpoints, ``weights_only`` loading.
        """
        text = json.dumps(asdict(self)).encode()
        # As long with selection as without: averages copy it in place.
        text += b' ' * (self.selection is not False)
        return torch.frombuffer(bytearray(text), dtype=torch.uint8)

    @classmethod
    def unpack(cls, packed: Tensor) -> WeightsInfo:
        """Read what :meth:`pack` wrote.

        Args:
            packed (Tensor): (n,) uint8.

        Raises:
            ValueError: If it is something else.
        """
        try:
            return cls._read(packed)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'the entry {KEY} of the checkpoint does not say what its '
                f'weights are ({type(error).__name__}: {error}): it is '
                'damaged, or of another package or a newer mmscope. Without '
                'that entry the checkpoint loads as one of unknown origin'
            ) from error

    @classmethod
    def _read(cls, packed: Tensor) -> WeightsInfo:
        found = json.loads(_bytes(packed))
        found = {'rope': False, 'selection': None, **found}
        known = {name: found[name] for name in cls.__dataclass_fields__}
        known['arch'] = dict(found['arch'])
        known['summary'] = SummaryTokens(**found['summary'])
        known['img_size'] = _pair(found['img_size'])
        known['tables'] = {
            name: PositionTable(
                _pair(table['grid']), SummaryTokens(**table['summary'])
            )
            for name, table in found['tables'].items()
        }
        return cls(**known)

    def differences(self, other: WeightsInfo) -> list[str]:
        """List where the mathematics of two differ.

        Args:
            other (WeightsInfo): Of the model that loads.

        Returns:
            list[str]: 'name: ours against other's', empty where weights mean
            the same in both. A grid is no difference, since tables are
            resized; nor are summary tokens to a model with none. Sizes are
            those of :meth:`other_sizes`.
        """
        names = ['blocks', 'patch_size', 'patch_stride', 'summary', 'rope']
        if self.blocks == other.blocks == 'mamba':
            names.append('average_directions')
        if other.summary.count == 0:
            names.remove('summary')
        return [
            f'{name}: {_shown(getattr(self, name))} against '
            f'{_shown(getattr(other, name))}'
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]

    def other_sizes(self, other: WeightsInfo) -> list[str]:
        """List the sizes that differ, those that no shape shows included.

        Args:
            other (WeightsInfo): Of the model that loads.

        Returns:
            list[str]: 'name: ours, expected other's'.
        """
        return [
            f'{name}: {self.arch.get(name)}, expected {other.arch.get(name)}'
            for name in sorted(self.arch.keys() | other.arch.keys())
            if self.arch.get(name) != other.arch.get(name)
        ]


def _bytes(packed: Tensor) -> bytes:
    # A cast of all weights to another dtype does not change such numbers.
    values = packed.detach().cpu().flatten()
    whole = values.to(torch.uint8)
    if not torch.equal(whole.to(values.dtype), values):
        raise ValueError('its numbers are not bytes')
    return bytes(whole.tolist())


def _pair(value: list[int]) -> tuple[int, int]:
    height, width = value
    if not all(type(i) is int and i > 0 for i in value):
        raise ValueError(f'{value} is no height and width')
    return height, width


def _shown(value: object) -> str:
    if isinstance(value, SummaryTokens):
        return f'{value.count} ({value.position})'
    return str(value)
