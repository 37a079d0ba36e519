"""What a sweep found: as a table, JSON and CSV."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmscope.evaluation.classification import ClassificationScore
from mmscope.evaluation.tables import Column, format_table

# Further data-set scores; those that no row has are not shown.
EXTRAS = (
    'bbox_mAP_50',
    'bbox_mAP_75',
    'segm_mAP',
    'segm_mAP_50',
    'top5',
)


@dataclass
class SweepResult:
    """Accuracy and cost at every threshold.

    Args:
        score (str): Name of the data-set score, a key of the rows.
        convention (str): How MACs were counted.
        rows (list[dict]): One a threshold, from all exit to nobody; see
            :func:`mmscope.evaluation.curves.curve_rows`. A model without a
            gate has one row with threshold None.
        confidence (dict): What the confidence knows: ``order_quality`` is 0
            for random exits and 1 for the oracle, ``scores`` is of
            ``confidence_quality``, ``kinds`` of ``compare_kinds``, ``bins``
            of ``confidence_bins`` for a classifier. Empty without a gate.
        images (list[dict]): Name, confidence and per-image scores; a
            classifier's label and predictions.
        throughput (list[dict]): See ``measure_throughput``. Defaults to [].
        meta (dict): Config, checkpoint, split and so on. Defaults to {}.
        variants (list[dict]): The same weights with other settings:
            ``settings``, and the curve's ``rows``. Defaults to [].
    """

    score: str
    convention: str
    rows: list[dict]
    confidence: dict
    images: list[dict]
    throughput: list[dict] = field(default_factory=list)
    meta: dict = field(default_factory=dict)
    variants: list[dict] = field(default_factory=list)

    def to_dict(self) -> dict:
        """Give everything as plain numbers, lists and dicts."""
        return asdict(self)

    def to_json(self, path: str | Path | None = None) -> str:
        """Write JSON.

        Args:
            path (str | Path | None): File; None writes none. Defaults to
                None.

        Returns:
            str: The JSON text.
        """
        content = self.to_dict()
        images = [
            json.dumps(image, allow_nan=False)
            for image in content.pop('images')
        ]
        text = json.dumps(content, indent=1, allow_nan=False)
        # A line an image: there may be fifty thousand of them.
        lines = ',\n  '.join(images)
        text = text[: -len('\n}')] + f',\n "images": [\n  {lines}\n ]\n}}'
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text + '\n')
        return text

    @classmethod
    def read(cls, path: str | Path) -> SweepResult:
        """Read what :meth:`to_json` wrote.

        Args:
            path (str | Path): JSON file.

        Returns:
            SweepResult: The sweep.

        Raises:
            ValueError: If the file is missing or holds something else.
        """
        try:
            return cls(**json.loads(Path(path).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f'{path} is not the JSON of a sweep (write one with '
                f'tools/analysis_tools/sweep_threshold.py): {error}'
            ) from error

    def to_csv(self, path: str | Path) -> None:
        """Write the rows as CSV.

        Args:
            path (str | Path): File.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, 'w', newline='') as file:
            keys = dict.fromkeys(key for row in self.rows for key in row)
            writer = csv.DictWriter(file, list(keys))
            writer.writeheader()
            writer.writerows(self.rows)

    def table(self) -> str:
        """Format the rows as an aligned Markdown table."""
        return format_table(self.rows, sweep_columns(self.score))

    def variants_table(self) -> str:
        """Format what other settings give as an aligned Markdown table."""
        own = {'settings': 'as it is', 'rows': self.rows}
        rows = [
            {'settings': entry['settings'], **_ends(entry['rows'], self.score)}
            for entry in (own, *self.variants)
        ]
        columns = [
            Column('settings', 'same weights with'),
            Column('exit', f'{self.score}, all exit', '.2f'),
            Column('full', f'{self.score}, none exits', '.2f'),
            Column('best', f'{self.score}, best threshold', '.2f'),
            Column('cost', 'GMACs, none exits', '.4f'),
        ]
        return format_table(rows, columns)

    def add_throughput(self, measured: list[dict]) -> None:
        """Enter measured speeds in the rows of the same threshold.

        Args:
            measured (list[dict]): Output of ``measure_throughput``. The
                rows get ``images_per_s`` of the smallest batch size; all
                of it is kept in ``throughput``.
        """
        self.throughput = measured
        for entry in sorted(measured, key=lambda m: -m['batch_size']):
            for row in self.rows:
                if row['threshold'] == entry['threshold']:
                    row['images_per_s'] = entry['images_per_s']


def _ends(rows: list[dict], score: str) -> dict:
    """Both ends of a curve, and its best point."""
    scores = [row[score] for row in rows if row[score] is not None]
    return {
        'exit': rows[0][score] if len(rows) > 1 else None,
        'full': rows[-1][score],
        'best': max(scores, default=None),
        'cost': rows[-1]['mean_cost'],
    }


def sweep_columns(score: str) -> list[Column]:
    """List the columns of the printed table.

    Args:
        score (str): Name of the data-set score.

    Returns:
        list[Column]: Columns.
    """
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
