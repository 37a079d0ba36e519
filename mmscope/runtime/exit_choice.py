"""An exit threshold in a file: what it is and how it was chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

import msgspec

from mmscope.analysis.costs import DIRECTIONS
from mmscope.errors import UserError
from mmscope.models.heads.confidence import ALL_CONFIDENCES
from mmscope.models.scoping import check_temperature, check_threshold
from mmscope.whole_files import write_whole

KIND = 'mmscope.exit_threshold'
TARGETS = {
    'target_flops': 'at most {:g} GMACs an image',
    'max_drop': 'at most {:g} points below nobody exiting',
}
SPLITS = ('val', 'test')
# What some entries must be one of.
KNOWN: dict[str, Collection[str]] = {
    'confidence': ALL_CONFIDENCES,
    'target': TARGETS,
    'split': SPLITS,
    'convention': DIRECTIONS,
}


@dataclass(frozen=True)
class ExitChoice:
    """A threshold that was chosen on one split of the data.

    Args:
        exit_threshold (float): η.
        confidence (str): Kind of confidence that it is compared with.
        target (str): Key of ``TARGETS``.
        limit (float): GMACs an image, or percent points.
        split (str): One of ``SPLITS``.
        expected (dict): The curve's row at the threshold, on that split.
        score (str): Name of the data-set score in ``expected``.
        convention (str): How MACs were counted, 'paper' or 'exact'.
        num_images (int): Images of the split, at least one.
        config (str): Config file.
        checkpoint (str): Name of the checkpoint file.
        temperature (float): T of the gate whose confidence it is. Defaults
            to 1, which files say that do not name it.

    Raises:
        ValueError: Naming the first entry that cannot be.
    """

    exit_threshold: float
    confidence: str
    target: str
    limit: float
    split: str
    expected: dict
    score: str
    convention: str
    num_images: int
    config: str
    checkpoint: str
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if check_threshold(self.exit_threshold) is None:
            raise ValueError('exit_threshold is missing')
        check_temperature(self.temperature)
        for name, known in KNOWN.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(
                    f'{name} is {value!r}, expected one of {sorted(known)}'
                )
        if not (_is_finite(self.limit) and self.limit >= 0):
            raise ValueError(
                f'limit is {self.limit!r}, expected a finite number >= 0'
            )
        if self.num_images < 1:
            raise ValueError(
                f'num_images is {self.num_images!r}, expected at least 1'
            )
        self._check_expected()

    def _check_expected(self) -> None:
        said = {self.score, 'mean_cost', 'exit_ratio'}
        if missing := said - set(self.expected):
            raise ValueError(f'expected lacks {", ".join(sorted(missing))}')
        for name in sorted(said):
            value = self.expected[name]
            # A split may have no score, see result_sentence.
            if not _is_finite(value) and (value, name) != (None, self.score):
                raise ValueError(
                    f'expected.{name} is {value!r}, expected a finite number'
                )
        if not 0 <= (ratio := self.expected['exit_ratio']) <= 1:
            raise ValueError(
                f'expected.exit_ratio is {ratio!r}, expected a number from 0 '
                'to 1'
            )
        if (cost := self.expected['mean_cost']) < 0:
            raise ValueError(
                f'expected.mean_cost is {cost!r}, expected a number >= 0'
            )

    def sentence(self) -> str:
        """Say what was chosen, how, and what it promised."""
        aim = TARGETS[self.target].format(self.limit)
        at = ''
        if self.temperature != 1:
            at = f' at temperature {self.temperature:.6g}'
        found = result_sentence(self.expected, self.score)
        return (
            f'exit threshold {self.exit_threshold:.6g} on {self.confidence}'
            f'{at}, chosen on {self.num_images} images of {self.split} '
            f'({aim}) for {self.checkpoint}: {found} there'
        )

    def write(self, path: str | Path) -> None:
        """Write JSON into a file, whose folder is made."""
        content = {'kind': KIND, **asdict(self)}
        text = json.dumps(content, indent=1, allow_nan=False)
        write_whole(path, text + '\n')

    @classmethod
    def read(cls, path: str | Path) -> ExitChoice:
        """Read what :meth:`write` wrote.

        Raises:
            UserError: If the file is missing or holds something else.
        """
        try:
            content = json.loads(Path(path).read_text())
            if not isinstance(content, dict) or content.pop('kind', None) != (
                KIND
            ):
                raise ValueError(f'it has no "kind": "{KIND}"')
            known = {field.name: field.default for field in fields(cls)}
            needed = {k for k, value in known.items() if value is MISSING}
            odd = sorted((needed - set(content)) | (set(content) - set(known)))
            if odd:
                raise ValueError(f'missing or unknown: {", ".join(odd)}')
            return msgspec.convert(content, cls)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise UserError(
                f'{path} is not a saved exit threshold (write one with '
                f'mmscope sweep --save-threshold): {error}'
            ) from error


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def result_sentence(row: dict, score: str) -> str:
    """Say score, cost and exit ratio of a curve's row."""
    value = 'no score' if row[score] is None else f'{score} {row[score]:.2f}'
    return (
        f'{value} at {row["mean_cost"]:.5g} GMACs with '
        f'{100 * row["exit_ratio"]:.1f} % exiting'
    )
