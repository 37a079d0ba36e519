"""The engine in actors of a Ray cluster."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmscope.errors import UserError
from mmscope.inference.engine import TwoStageEngine
from mmscope.inference.rows import Row
from mmscope.inference.to_parquet import MakeRow, rows_of_engine

# Names of a task, in coarse batches: its last batches are not full.
BATCHES_A_TASK = 16
# So that an actor never waits for the next.
TASKS_AN_ACTOR = 2
# Deaths of actors over one task, after which its images are blamed.
RETRIES = 3


class Predictor:
    """An engine in a process of its own.

    Args:
        make (Callable): Builds the engine, and what makes a row of a name
            and a result.
    """

    def __init__(
        self, make: Callable[[], tuple[TwoStageEngine, MakeRow]]
    ) -> None:
        self._engine, self._make_row = make()

    def predict(self, folder: Path, names: list[str]) -> list[Row]:
        """Predict some images.

        Args:
            folder (Path): What names are relative to, on every machine.
            names (list[str]): Of images.

        Returns:
            list[dict]: A row a name.
        """
        return [*rows_of_engine(self._engine, self._make_row, folder, names)]


def rows_on_ray(
    make: Callable[[], tuple[TwoStageEngine, MakeRow]],
    folder: Path,
    names: Iterable[str],
    actors: int,
    coarse_batch: int,
    cpus: int,
    gpus: int,
) -> Iterator[Row]:
    """Predict images on a Ray cluster, or on this machine without one.

    The cluster is that of ``RAY_ADDRESS``. An actor that dies is started
    again, and what it had not given back is predicted again.

    Args:
        make (Callable): See :class:`Predictor`; runs in every actor.
        folder (Path): See :meth:`Predictor.predict`.
        names (Iterable[str]): Read as they are wanted.
        actors (int): Engines.
        coarse_batch (int): Of each.
        cpus (int): Cores of each.
        gpus (int): GPUs of each.

    Yields:
        dict: Rows, in the order of the names.

    Raises:
        UserError: If Ray is missing, the cluster has no room for the actors,
            or they die over the same images again and again.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            "--ray needs Ray: pip install 'mmscope[ray]'"
        ) from None
    ray.init(include_dashboard=False, log_to_driver=False)
    try:
        check_room(ray.nodes(), actors, cpus, gpus)
        remote = ray.remote(
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )(Predictor)
        # In turns: tasks of an actor run one after another.
        pool = itertools.cycle([remote.remote(make) for _ in range(actors)])
        running: deque[tuple[list[str], Any]] = deque()
        for chunk in _chunks(names, BATCHES_A_TASK * coarse_batch):
            running.append((chunk, next(pool).predict.remote(folder, chunk)))
            if len(running) >= TASKS_AN_ACTOR * actors:
                yield from _rows(ray, *running.popleft())
        while running:
            yield from _rows(ray, *running.popleft())
    finally:
        ray.shutdown()


def check_room(
    nodes: Sequence[Mapping[str, Any]], actors: int, cpus: int, gpus: int
) -> None:
    """Refuse actors for which Ray would wait for ever.

    Args:
        nodes (Sequence[Mapping]): Of ``ray.nodes()``.
        actors (int): Engines.
        cpus (int): Cores of each.
        gpus (int): GPUs of each.

    Raises:
        UserError: If there is room for fewer.
    """
    wanted = {'CPU': cpus, 'GPU': gpus}
    room = sum(
        min(
            int(node['Resources'].get(kind, 0) // number)
            for kind, number in wanted.items()
            if number
        )
        for node in nodes
        if node['Alive']
    )
    if room < actors:
        raise UserError(
            f'--ray {actors} asks for {actors} actors of {cpus} cores '
            f'(--workers and one) and {gpus} GPUs (--ray-gpus), and the '
            f'cluster has room for {room}: give fewer, or smaller ones'
        )


def _rows(ray: Any, chunk: Sequence[str], task: Any) -> list[Row]:
    try:
        return ray.get(task)
    except ray.exceptions.RayActorError as error:
        raise UserError(
            f'{RETRIES + 1} actors died, one after the other, over the images '
            f'{chunk[0]} to {chunk[-1]}: one of them kills a decoder, or the '
            f'memory is too small for the batch ({error})'
        ) from error


def _chunks(names: Iterable[str], size: int) -> Iterator[list[str]]:
    names = iter(names)
    while chunk := list(itertools.islice(names, size)):
        yield chunk
