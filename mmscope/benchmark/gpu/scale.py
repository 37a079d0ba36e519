"""How large everything is: on a GPU, and in a dry run on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from mmscope.benchmark.gpu.cases import (
    ParityCase,
    full_cases,
    huge_cases,
    tiny_cases,
    tiny_huge_cases,
    watched_cases,
)

# As mmscope.benchmark.models names them, which needs mmengine; this does not.
DEIT, VIM = 'DeiT', 'ViM'
# Of a two-layer network that stands for every architecture in a dry run.
TINY = dict(embed_dims=16, num_layers=2)
TINY_DEIT = dict(
    embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=64
)


@dataclass(frozen=True)
class CellPlan:
    """One cell of the grid of models, timed for ``budget_s`` seconds.

    ``graphs``: CUDA graphs are timed, too. ``compiled`` models are timed
    against themselves; then nobody else is.
    """

    arch: str
    resolution: int
    batch: int
    graphs: bool = False
    compiled: tuple[str, ...] = ()
    budget_s: float = 10.0

    @property
    def name(self) -> str:
        """What it is called in the record."""
        place = f'{self.arch}, {self.resolution} px, batch {self.batch}'
        return ', '.join([place, *(f'{x} compiled' for x in self.compiled)])


@dataclass(frozen=True)
class OpPlan:
    """One shape of the grid of operators, by default ViM-S's.

    ``scored`` scans give scores, too, as in the coarse stage; then only the
    scan races.
    """

    batch: int
    seqlen: int
    dim: int = 768
    d_state: int = 16
    scored: bool = False

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """(batch, seqlen, dim, d_state)."""
        return self.batch, self.seqlen, self.dim, self.d_state


@dataclass(frozen=True)
class Scale:
    """Sizes, device and repeats of one run.

    Args:
        device (torch.device): Where everything works.
        dry_run (bool): Whether it only shows that every line runs.
        parity (tuple[ParityCase, ...]): Kernels against the reference.
        huge (tuple[ParityCase, ...]): The same, checked in some of their
            sequences and channels only.
        watched (tuple[ParityCase, ...]): Run once under a tool that watches
            memory.
        ops (tuple[OpPlan, ...]): Grid of operators, in order of importance.
        cells (tuple[CellPlan, ...]): Grid of models, in order of importance.
        gated_batches (tuple[int, ...]): Where shares of savings are measured.
        training_batch (int): Images of a training step.
        side (int): Pixels of gated and trained images. Defaults to 224.
        repeats (int): Timed rounds at most. Defaults to 20.
        patience (float): Factor on all time budgets. Defaults to 1.
        compiler (str): Backend of torch.compile. Defaults to 'inductor'.
        archs (dict): Architecture to what builds it, empty for its name.
            Defaults to {}.
        deit (dict | None): DeiT in place of that of the same name. Defaults
            to None.
        sanitizer (tuple[str, ...]): Command in front of the small kernels.
            Defaults to compute-sanitizer.
    """

    device: torch.device
    dry_run: bool
    parity: tuple[ParityCase, ...]
    huge: tuple[ParityCase, ...]
    watched: tuple[ParityCase, ...]
    ops: tuple[OpPlan, ...]
    cells: tuple[CellPlan, ...]
    gated_batches: tuple[int, ...]
    training_batch: int
    side: int = 224
    repeats: int = 20
    patience: float = 1.0
    compiler: str = 'inductor'
    archs: dict = field(default_factory=dict)
    deit: dict | None = None
    sanitizer: tuple[str, ...] = ('compute-sanitizer',)

    def arch(self, name: str) -> str | dict:
        """Return what builds an architecture."""
        return self.archs.get(name, name)


def full_scale() -> Scale:
    """Return the sizes of a GPU.

    ViM-S has 768 channels inside its mixers, 16 states; 197 tokens at 224
    pixels, 4097 at 1024.
    """
    cells = (
        CellPlan('small', 224, 64, graphs=True),
        CellPlan('small', 1024, 64),
        CellPlan('small', 1024, 64, compiled=(DEIT,)),
        CellPlan('small', 224, 1, graphs=True),
        CellPlan('small', 1024, 1, graphs=True),
        CellPlan('small', 224, 64, compiled=(DEIT, VIM), budget_s=6.0),
        CellPlan('small', 224, 256),
        CellPlan('tiny', 224, 64, budget_s=5.0),
        CellPlan('tiny', 224, 1, budget_s=5.0),
        CellPlan('tiny', 1024, 64, budget_s=6.0),
        CellPlan('small', 1024, 256, budget_s=14.0),
        CellPlan('small', 1024, 64, compiled=(VIM,), budget_s=8.0),
    )
    return Scale(
        device=torch.device('cuda'),
        dry_run=False,
        parity=full_cases(),
        huge=huge_cases(),
        watched=watched_cases(((2, 19, 40, 16), (1, 300, 33, 16))),
        ops=(
            OpPlan(64, 197),
            OpPlan(1, 197),
            OpPlan(64, 51, scored=True),
            OpPlan(1, 4097),
            OpPlan(8, 4097),
            OpPlan(256, 197),
            OpPlan(1, 51, scored=True),
            OpPlan(64, 1025),
            OpPlan(256, 51, scored=True),
            OpPlan(8, 197),
        ),
        cells=cells,
        gated_batches=(64, 1, 8, 256),
        training_batch=64,
    )


def tiny_scale() -> Scale:
    """Return the sizes of a dry run: every line, in seconds, on a CPU."""
    return Scale(
        device=torch.device('cpu'),
        dry_run=True,
        parity=tiny_cases(),
        huge=tiny_huge_cases(),
        watched=watched_cases(((1, 2, 3, 2),)),
        ops=(OpPlan(1, 2, 4, 2), OpPlan(1, 1, 4, 2, scored=True)),
        cells=(
            CellPlan('small', 32, 2, True),
            CellPlan('tiny', 32, 1),
            CellPlan('small', 32, 1, compiled=(DEIT,)),
        ),
        gated_batches=(1, 2),
        training_batch=2,
        side=32,
        repeats=1,
        # A busy machine must not make a dry run fail.
        patience=20.0,
        compiler='eager',
        archs={'tiny': TINY, 'small': TINY},
        deit=TINY_DEIT,
        # Runs what follows it, and nothing else.
        sanitizer=('env',),
    )
