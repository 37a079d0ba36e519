"""Opens every file of a data set, and counts what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mmengine.dataset import ConcatDataset, RepeatDataset
from torch.utils.data import Dataset

from mmscope.errors import DatasetLayoutError

from .checked import CheckedItems
from .files import SHOWN


@dataclass
class Findings:
    """What is wrong with one data set.

    Args:
        number (int): Entries that were looked at.
        problems (list[str]): A sentence for each that is not right.
        doubts (list[str]): What looks wrong over all of them, and need not
            be.
    """

    number: int = 0
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def report(self, name: str) -> str:
        """Say how many entries are not right, and show the first three.

        Args:
            name (str): What it calls the data set.

        Returns:
            str: One line, and one for each sentence.
        """
        text = f'{name}: {self.number:,} entries, '
        if self.problems:
            text = (
                f'{name}: {len(self.problems):,} of {self.number:,} entries '
                f'are not right, the first are{_lines(self.problems[:SHOWN])}'
            )
        elif self.doubts:
            text += 'every file can be read'
        else:
            text += 'every file is right'
        return text + (
            f'\nwhat looks wrong{_lines(self.doubts)}' if self.doubts else ''
        )


def check_all(
    dataset: Dataset, tell: Callable[[int, int], None] = lambda *_: None
) -> Findings:
    """Open every file of a data set.

    Args:
        dataset (Dataset): Ours are decoded file by file; of others each
            entry goes through its pipeline.
        tell (Callable[[int, int], None]): Called with the entries done and
            their number. Defaults to nothing.

    Returns:
        Findings: What was looked at, and what is wrong.
    """
    found = Findings()
    for part in _parts(dataset):
        for index in range(len(part)):
            found.number += 1
            if problem := _problem(part, index):
                found.problems.append(problem)
            tell(found.number, len(dataset))
        if isinstance(part, CheckedItems) and (text := part.doubts()):
            (found.problems if part.strict else found.doubts).append(text)
    return found


def _lines(sentences: Sequence[str]) -> str:
    return ''.join(f'\n- {text}' for text in sentences)


def _problem(dataset: Dataset, index: int) -> str:
    try:
        if isinstance(dataset, CheckedItems):
            dataset.check_item(index)
        else:
            dataset[index]
    except DatasetLayoutError as error:
        return str(error)
    # Pipelines of others fail in all ways.
    except Exception as error:
        return f'entry {index}: {type(error).__name__}: {error}'
    return ''


def _parts(dataset: Dataset) -> Iterator[Dataset]:
    """Data sets inside of wrappers, each once."""
    if isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from _parts(part)
    elif isinstance(dataset, RepeatDataset):
        yield from _parts(dataset.dataset)
    else:
        yield dataset
