"""What a sweep found: frames, written as JSON and CSV."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from mmscope.evaluation.classification import ClassificationScore
from mmscope.evaluation.confidence_quality import ConfidenceQuality
from mmscope.evaluation.sweep_meta import SweepMeta
from mmscope.evaluation.tables import (
    Column,
    format_table,
    from_records,
    to_records,
)
from mmscope.whole_files import write_whole

# Further data-set scores; those that no row has are not shown.
EXTRAS = (
    'bbox_mAP_50',
    'bbox_mAP_75',
    'segm_mAP',
    'segm_mAP_50',
    'top5',
)

READ_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    msgspec.MsgspecError,
)


@dataclass
class SweepResult:
    """Accuracy and cost at every threshold.

    Args:
        score (str): Name of the data-set score, a column of the rows.
        convention (str): How MACs were counted.
        rows (pd.DataFrame): One row a ``threshold``, from all exit to
            nobody; columns of :func:`mmscope.evaluation.curves.curve`, and
            ``images_per_s`` where it was timed. A model without a gate has
            one row, threshold NaN, with the columns of ``operating_point``.
        confidence (ConfidenceQuality | None): What is known of the gate's
            confidence; None without a gate. Defaults to None.
        images (pd.DataFrame): See ``EndpointImages.details``. Defaults to
            empty.
        throughput (pd.DataFrame): See ``measure_throughput``. Defaults to
            empty.
        meta (SweepMeta): Config, checkpoint, split and so on. Defaults to
            nothing known.
        variants (dict[str, pd.DataFrame]): Rows of the same weights with
            other settings, by the settings. Defaults to {}.
    """

    score: str
    convention: str
    rows: pd.DataFrame
    confidence: ConfidenceQuality | None = None
    images: pd.DataFrame = field(default_factory=pd.DataFrame)
    throughput: pd.DataFrame = field(default_factory=pd.DataFrame)
    meta: SweepMeta = field(default_factory=SweepMeta)
    variants: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def gated(self) -> bool:
        """Whether there is a curve, and not a point."""
        return len(self.rows) > 1

    @property
    def num_images(self) -> int:
        """Images swept; a file may leave the single ones out."""
        number = self.meta.num_images
        return len(self.images) if number is None else number

    def to_json(self, path: str | Path | None = None) -> str:
        """Give JSON, and write it where a file is named."""
        content = {
            'score': self.score,
            'convention': self.convention,
            'rows': to_records(self.rows),
            'confidence': self.confidence.to_json() if self.confidence else {},
            'throughput': to_records(self.throughput),
            'meta': msgspec.to_builtins(self.meta),
            'variants': [
                {'settings': settings, 'rows': to_records(rows)}
                for settings, rows in self.variants.items()
            ],
        }
        text = json.dumps(content, indent=1, allow_nan=False)
        # A line an image: there may be fifty thousand of them.
        lines = ',\n  '.join(map(json.dumps, to_records(self.images)))
        text = text[: -len('\n}')] + f',\n "images": [\n  {lines}\n ]\n}}'
        if path is not None:
            write_whole(path, text + '\n')
        return text

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> SweepResult:
        """Make a sweep of parsed JSON; what has a default may be missing.

        Raises TypeError if there is no score, convention or row.
        """
        read = {
            'confidence': lambda content: (
                ConfidenceQuality.from_json(content) if content else None
            ),
            'meta': lambda content: msgspec.convert(content, SweepMeta),
            'variants': lambda variants: {
                entry['settings']: from_records(entry['rows'])
                for entry in variants
            },
            **dict.fromkeys(('rows', 'images', 'throughput'), from_records),
        }
        return cls(
            **{
                name: read[name](value) if name in read else value
                for name, value in content.items()
            }
        )

    @classmethod
    def read(cls, path: str | Path) -> SweepResult:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: If the file is missing or holds something else.
        """
        try:
            result = cls.from_json(json.loads(Path(path).read_text()))
            for rows in (result.rows, *result.variants.values()):
                _check_rows(rows, result.score)
            return result
        except READ_ERRORS as error:
            raise ValueError(
                f'{path} is not the JSON of a sweep (write one with '
                f'mmscope sweep): {error}'
            ) from error

    def table(self) -> str:
        """Format the rows as a Markdown table."""
        return format_table(self.rows, sweep_columns(self.score))

    def add_throughput(self, measured: pd.DataFrame) -> None:
        """Keep what ``measure_throughput`` found.

        The rows get ``images_per_s`` of the smallest batch size.
        """
        self.throughput = measured
        least = measured['batch_size'] == measured['batch_size'].min()
        speeds = measured.loc[least, ['threshold', 'images_per_s']]
        self.rows = self.rows.merge(speeds, how='left', on='threshold')


def _check_rows(rows: pd.DataFrame, score: Any) -> None:
    wanted = ['threshold', score]
    missing = [name for name in wanted if name not in rows]
    if missing or not len(rows):
        raise ValueError(
            f'{len(rows)} rows with {list(rows)}, expected one or more with '
            f'{wanted}'
        )
    words = [k for k in wanted if not pd.api.types.is_numeric_dtype(rows[k])]
    if words and not rows[words].isna().all(axis=None):
        raise ValueError(f'{words} of the rows must be numbers')


def sweep_columns(score: str) -> list[Column]:
    """List the columns of the printed table of a data-set score."""
    # One number an image and model: a classifier has nothing but its head
    # outside the backbone, and who exits is right or wrong.
    classifier = score == ClassificationScore.name
    parts = [
        Column('exited', 'of those who exit', '.2f'),
        Column('refined', 'of those who go on', '.2f'),
    ]
    backbone = Column('backbone_cost', 'backbone GMACs', '.3f')
    return [
        Column('threshold', 'threshold', '.6g'),
        Column('exit_ratio', 'exit ratio', '.3f'),
        Column(score, score, '.2f'),
        *(Column(name, name, '.2f') for name in EXTRAS),
        *(parts if classifier else []),
        Column('ece', 'ECE', '.2f'),
        Column('random', 'random exits', '.2f', std='random_std'),
        Column('oracle', 'oracle', '.2f'),
        Column('mean_tokens', 'mean tokens', '.1f'),
        *([] if classifier else [backbone]),
        Column('mean_cost', 'mean GMACs', '.5f' if classifier else '.3f'),
        Column('images_per_s', 'images/s', '.2f'),
    ]
