"""CUDA graphs of whole models, and of the two branches of MambaScope.

Who goes on depends on data, which no graph can hold: a graph of the coarse
branch, the gate outside of it, a graph of the fine branch for those who stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

import torch
from torch import Tensor, nn

from mmscope.analysis import mean_cost
from mmscope.benchmark.exits import (
    THRESHOLD,
    as_fraction,
    cycle_length,
    forced_confidence,
)
from mmscope.benchmark.gpu.graphs import Recorded
from mmscope.benchmark.gpu.scale import CellPlan, Scale
from mmscope.benchmark.models import (
    DEIT,
    SCOPE,
    VIM,
    BenchmarkModel,
    cast,
    model_macs,
)
from mmscope.benchmark.subjects import Draw, Subject, weight_bytes
from mmscope.evaluation.interleaved_timing import Run
from mmscope.models import CoarseBranch, FineBranch

DTYPE = torch.bfloat16
RATIOS = (0.0, 0.5, 1.0)
GRAPHS = f'{SCOPE}, graphs'
Builders = Mapping[str, Callable[[], BenchmarkModel]]


def casting(device: torch.device) -> torch.autocast:
    """Cast to bfloat16 inside a recording.

    A cache of cast weights would be freed while the graph still reads it.
    """
    return torch.autocast(device.type, DTYPE, cache_enabled=False)


def without_memory(batch: int) -> dict[str, None]:
    """Leave a row's memory out: a graph holds its own between runs."""
    return {'memory_mib': None}


class ScopeGraphs:
    """MambaScope with both branches as CUDA graphs.

    Args:
        model (nn.Module): MambaScope with a head and its gate attached.
        images (Tensor): (B, 3, H, W).
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.images, self.device = images, images.device
        coarse = CoarseBranch(model.backbone).eval()
        self._fine = FineBranch(model.backbone).eval()
        self._head, self._judge = model.head, model.backbone.gate.confidence
        self._fines: dict[int, Recorded] = {}

        def look(images: Tensor) -> tuple:
            output, state = coarse(images)
            verdict = self._judge(state['cls'], state['tokens'])
            return output[0], state, verdict

        with torch.no_grad(), casting(self.device):
            self._coarse = Recorded(look, (images,), self.device)
            _, self._state, _ = self._coarse(images)

    def coarse(self) -> object:
        """Run the coarse branch alone."""
        return self._coarse(self.images)

    def prepare(self, number: int) -> Recorded:
        """Record the fine branch for a number of images, at least 1.

        It maps images and coarse state to fine cls tokens.
        """
        if number not in self._fines:
            names = list(self._state)

            def refine(images: Tensor, *values: Tensor) -> Tensor:
                state = dict(zip(names, values, strict=True))
                return self._fine(images, state)[0]

            some = slice(number)
            state = [x[some] for x in self._state.values()]
            with torch.no_grad(), casting(self.device):
                self._fines[number] = Recorded(
                    refine, (self.images[some], *state), self.device
                )
        return self._fines[number]

    def refining(self) -> Run:
        """Return a run of the fine branch alone on all images."""
        fine = self.prepare(len(self.images))
        return partial(fine, self.images, *self._state.values())

    def gated(self, ratio: float) -> Run:
        """Return a run of everything at a forced exit ratio.

        Its gate judges, waits for the verdict as a real one has to, and lets
        as many images go on as :class:`ForcedGate` does.
        """
        batch, share = len(self.images), as_fraction(ratio)
        counts = [
            int((turn + 1) * batch * share) - int(turn * batch * share)
            for turn in range(cycle_length(ratio, batch))
        ]
        verdicts = [
            forced_confidence(batch, exits, self.device) for exits in counts
        ]
        for exits in set(counts) - {batch}:
            self.prepare(batch - exits)
        turn = 0

        def run() -> Tensor:
            nonlocal turn
            verdict = verdicts[turn % len(verdicts)]
            turn += 1
            with torch.no_grad():
                return self._head((self._forward(verdict),))

        return run

    def _forward(self, verdict: Tensor) -> Tensor:
        cls, state, _ = self._coarse(self.images)
        stay = (verdict < THRESHOLD).nonzero()[:, 0]
        if not len(stay):
            return cls
        fine = self.prepare(len(stay))
        some = [x[stay] for x in (self.images, *state.values())]
        refined = fine(*some)
        return cls.index_copy(0, stay, refined.to(cls.dtype))


def graph_subjects(
    build: Builders, plan: CellPlan, scale: Scale, draw: Draw
) -> list[Subject]:
    """List ViM and DeiT as graphs, and MambaScope by its branches.

    Nothing is recorded until they are asked to run.
    """
    found = [
        _recorded(f'{name}, graph', build[name], draw)
        for name in (VIM, DEIT)
        if name in build
    ]
    scope = cast(build[SCOPE](), torch.float32, scale.device)
    graphs = cache(lambda batch: ScopeGraphs(scope, draw(batch)))
    branches = {
        'coarse branch, graph': lambda batch: graphs(batch).coarse,
        'fine branch, graph': lambda batch: graphs(batch).refining(),
    }
    found += [
        Subject(name, name, make, details=without_memory)
        for name, make in branches.items()
    ]
    costs = model_macs(scope, plan.resolution)

    def gated(ratio: float) -> Subject:
        return Subject(
            f'{SCOPE} {100 * ratio:g} %, graphs',
            GRAPHS,
            lambda batch: graphs(batch).gated(ratio),
            exit_ratio=ratio,
            macs=mean_cost(costs, ratio),
            weight_bytes=weight_bytes(scope),
            details=without_memory,
        )

    return [*found, *map(gated, RATIOS)]


def _recorded(
    name: str, build: Callable[[], nn.Module], draw: Draw
) -> Subject:
    def make(batch: int) -> Run:
        images = draw(batch)
        with images.device:
            model = cast(build(), torch.float32, images.device)
        with torch.no_grad(), casting(images.device):
            recorded = Recorded(model, (images,), images.device)
        # Copying the images to where the graph reads them belongs to it.
        return partial(recorded, images)

    return Subject(name, name, make, details=without_memory)
