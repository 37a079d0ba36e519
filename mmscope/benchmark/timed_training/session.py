"""Several models of configs trained in turns, in the minutes at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmscope.benchmark.files import write_json
from mmscope.benchmark.gpu.record import set_aside
from mmscope.benchmark.timed_training.images import Images, evaluation_batches
from mmscope.benchmark.timed_training.learner import SEED, Learner
from mmscope.benchmark.timed_training.state import Point, Run, State
from mmscope.evaluation.interleaved_timing import stopwatch
from mmscope.evaluation.sweep import sweep
from mmscope.evaluation.sweep_meta import SweepMeta
from mmscope.evaluation.tables import to_records

# Points of a curve, each a chunk of every model.
CHUNKS = 20
# Of the whole time: for the sweeps at the end, and what a chunk may take
# longer than the probe said.
SWEEP_SHARE, SLACK = 0.12, 0.95
PROBE_STEPS = 3
EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Pace:
    """Seconds of the probe, for all models together, and steps at most."""

    probe_s: float = 10.0
    most_steps: int | None = None


USUAL = Pace()


class Session:
    """Trains models, all with the same batch, in turns until time is over.

    ``splits`` are 'val' and 'test', on the device; ``state`` is where an
    earlier call stopped, or a new one. Checkpoints and sweeps lie beside the
    JSON file ``path``; ``deadline`` is in seconds of :func:`time.monotonic`.
    """

    def __init__(
        self,
        learners: Sequence[Learner],
        splits: dict[str, Images],
        state: State,
        path: Path,
        deadline: float,
        tell: Callable[[str], None] = lambda text: None,
        pace: Pace = USUAL,
    ) -> None:
        self.pace = pace
        self.learners, self.splits = learners, splits
        self.state, self.path, self.tell = state, path, tell
        self.begin = time.monotonic()
        self.spent_before = state.spent_s
        self.deadline = deadline
        self.train_until = deadline - SWEEP_SHARE * (deadline - self.begin)

    def checkpoint(self, learner: Learner) -> Path:
        """Return where a model is written."""
        return self.path.with_name(f'{self.path.stem}-{learner.name}.pth')

    def run(self) -> State:
        """Probe, train, sweep; write after everything."""
        for learner in self.learners:
            self._open(learner)
        if self.state.total:
            self._evaluation_seconds()
        else:
            self.probe()
        while self._train_chunk():
            pass
        for learner in self.learners:
            self._sweep(learner)
        return self.state

    def _open(self, learner: Learner) -> None:
        """Go on with a model, or begin; weights of others are set aside."""
        run = self.state.runs.setdefault(learner.name, Run(learner.name))
        file = self.checkpoint(learner)
        if run.curve and file.is_file():
            learner.load(file)
        elif not run.curve:
            set_aside(file, {})

    def probe(self) -> None:
        """Find out how long a step takes, and how many fit."""
        evaluation_s = self._evaluation_seconds()
        left = self.train_until - time.monotonic()
        each = min(self.pace.probe_s, 0.1 * left) / len(self.learners)
        for learner in self.learners:
            # Both kinds of steps, as the selection comes on during the run.
            costs = [
                self._step_seconds(learner, share, each / 2)
                for share in (0.0, 1.0)
            ]
            run = self.state.runs[learner.name]
            begin = selection_begins(learner)
            run.step_s = begin * costs[0] + (1 - begin) * costs[1]
            learner.restart()
        self.state.total = self._steps_that_fit(0, CHUNKS * evaluation_s)
        self.tell(f'{self.state.total} steps of each model fit')
        self._write()

    def _evaluation_seconds(self) -> float:
        """Time an evaluation of all models, without what it compiles first."""
        total = 0.0
        for learner in self.learners:
            run = partial(learner.accuracy, self.splits['val'])
            run()
            total += stopwatch(run, learner.device)
        return total

    def _step_seconds(
        self, learner: Learner, progress: float, budget_s: float
    ) -> float:
        total = 10**6
        learner.steps_done = int(progress * (total - 1))

        def run() -> None:
            learner.train(PROBE_STEPS, total)

        # The first one compiles and records.
        run()
        times, end = [], time.monotonic() + budget_s
        while not times or time.monotonic() < end:
            times.append(stopwatch(run, learner.device) / PROBE_STEPS)
        return sorted(times)[len(times) // 2]

    def _steps_that_fit(
        self, done: int, besides_s: float = 0.0, slack: float = SLACK
    ) -> int:
        """Steps of the whole training of each model, some being done.

        ``besides_s`` are needed for what the seconds of a step leave out.
        """
        left = slack * (self.train_until - time.monotonic()) - besides_s
        each = sum(run.step_s for run in self.state.runs.values())
        fit = done + max(int(left / each), CHUNKS)
        return min(fit, self.pace.most_steps or fit)

    def _train_chunk(self) -> bool:
        """Let every model do a chunk; whether there is more to do."""
        total = self.state.total
        chunk = -(-total // CHUNKS)
        order = list(self.learners)
        # The one that is behind, after an interruption, comes first.
        order.sort(key=lambda learner: learner.steps_done)
        if order[0].steps_done >= total or time.monotonic() > self.train_until:
            return False
        goal = min(order[0].steps_done + chunk, total)
        for learner in order:
            if learner.steps_done < goal:
                self._learn(learner, goal - learner.steps_done)
        self._fit_again(goal)
        return True

    def _learn(self, learner: Learner, number: int) -> None:
        start, run = time.monotonic(), self.state.runs[learner.name]
        recorded_before = learner.recording_s
        loss = learner.train(number, self.state.total).item()
        seconds = time.monotonic() - start
        accuracy = learner.accuracy(self.splits['val'])
        epoch = learner.steps_done * learner.batch / len(learner.images)
        point = Point(learner.steps_done, epoch, loss, accuracy, seconds)
        run.curve.append(point)
        run.how, run.why_not_recorded = learner.how, learner.why_not_recorded
        # As it was, evaluation included: the rest will be like it, but will
        # record nothing.
        spent = time.monotonic() - start
        spent -= learner.recording_s - recorded_before
        run.step_s = spent / number
        learner.save(self.checkpoint(learner))
        self._write()
        self.tell(
            f'{learner.name}: {epoch:.1f} epochs, loss {loss:.3f}, '
            f'{accuracy:.2f} % of held-out images'
        )

    def _fit_again(self, done: int) -> None:
        """Shorten the schedule if it would not come to its end."""
        # The slack is for what went wrong since it was left.
        if done < self._steps_that_fit(done, slack=1.0) < self.state.total:
            fit = self._steps_that_fit(done)
            self.tell(f'slower than the probe: {fit} steps in all')
            self.state.total = fit
            self._write()

    def _sweep(self, learner: Learner) -> None:
        run = self.state.runs[learner.name]
        for split in ('test', 'val'):
            images = self.splits[split]
            batches = evaluation_batches(images, EVALUATION_BATCH)
            result = sweep(learner.model, batches)
            result.meta = SweepMeta(
                name=learner.name,
                config=learner.name,
                checkpoint=self.checkpoint(learner).name,
                split=split,
                num_images=len(images),
                params=sum(p.numel() for p in learner.model.parameters()),
                seed=SEED,
            )
            name = f'{self.path.stem}-{learner.name}-{split}.json'
            result.to_json(self.path.with_name(name))
            run.sweeps[split] = to_records(result.rows)
            self._write()
            best = result.rows[result.score].max()
            self.tell(f'{learner.name}, {split}: {best:.2f} %')

    def _write(self) -> None:
        spent = time.monotonic() - self.begin
        self.state.spent_s = self.spent_before + spent
        write_json(self.path, self.state)


def selection_begins(learner: Learner) -> float:
    """Return the fraction of a training after which a hook switches, or 1."""
    begins = [getattr(hook, 'begin', None) for hook in learner.hooks]
    fractions = [b for b in begins if isinstance(b, float)]
    return min(fractions, default=1.0)
