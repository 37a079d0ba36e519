"""Who is timed in one cell of the grid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn

from mmscope.analysis import mean_cost
from mmscope.benchmark.exits import cycle_length, forced_run
from mmscope.benchmark.models import (
    DEIT,
    REDUCED,
    SCOPE,
    VIM,
    build_deit,
    build_scope,
    build_vim,
    cast,
    model_macs,
    why_no_deit,
)
from mmscope.benchmark.products import products_run, vim_products
from mmscope.benchmark.reductions import (
    build_reduced,
    reduced_run,
    unpublished,
)
from mmscope.evaluation.interleaved_timing import Entry, Run

PRODUCTS = 'matrix products of ViM'
EXIT_RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Number of images B to images (B, 3, H, W).
Draw = Callable[[int], Tensor]


@dataclass(frozen=True)
class Subject:
    """One line of a table.

    Args:
        name (str): Unique in its cell.
        kind (str): 'DeiT', 'ViM', 'reduced ViM', 'MambaScope' or another.
        make (Callable): Number of images to a run of one forward of them.
        exit_ratio (float | None): Forced; None without a forced gate.
            Defaults to None.
        macs (float | None): Mean MACs of an image, both scan directions.
            Defaults to None.
        weight_bytes (int): Of its parameters. Defaults to 0.
        model (str): What is shared by one model's exit ratios. Defaults to
            ''.
        images (int): Different images that its forwards go through; 0 if
            they see the same batch again. Defaults to 0.
        details (Callable | None): Number of images to further fields of its
            row, asked for after the timing. Defaults to None.
    """

    name: str
    kind: str
    make: Callable[[int], Run]
    exit_ratio: float | None = None
    macs: float | None = None
    weight_bytes: int = 0
    model: str = ''
    images: int = 0
    details: Callable[[int], dict[str, float | None]] | None = None

    def period(self, batch: int) -> int:
        """Forwards of a round: all images, and the exit ratio is met."""
        batches = max(self.images // batch, 1)
        if self.exit_ratio is None:
            return batches
        return math.lcm(batches, cycle_length(self.exit_ratio, batch))

    def entry(self, batch: int) -> Entry:
        """Make what is timed."""
        return Entry(self.make(batch), self.period(batch))


@dataclass(frozen=True)
class Subjects:
    """Who is timed in a cell, in the order of the table, and who is absent.

    Raises ValueError if two have one name, by which times are kept.
    """

    subjects: list[Subject]
    absent: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = Counter(subject.name for subject in self.subjects)
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise ValueError(
                'each subject of a cell needs a name of its own, got '
                f'{repeated[0]!r} twice'
            )


def scope_name(exit_ratio: float) -> str:
    """Name MambaScope at a forced exit ratio, such as 'MambaScope 50 %'."""
    return f'{SCOPE} {100 * exit_ratio:g} %'


def images_of(
    resolution: int, dtype: torch.dtype, device: torch.device
) -> Draw:
    """Share random images, the same each time, among subjects."""

    @cache
    def draw(batch: int) -> Tensor:
        images = torch.randn(batch, 3, resolution, resolution, device=device)
        return images.to(dtype)

    return draw


def make_subjects(
    arch: str | dict,
    resolution: int,
    *,
    neck: str = 'none',
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = 'cpu',
    backend: str = 'auto',
    exit_ratios: Sequence[float] = EXIT_RATIOS,
    refine_ratio: float = 0.8,
    matmuls: bool = False,
    deit_arch: str | dict | None = None,
    reductions: Mapping[str, dict] | None = None,
) -> Subjects:
    """Build the subjects of one architecture and resolution.

    Args:
        arch (str | dict): 'tiny', 'small', 'base', or a dict of sizes.
        resolution (int): Image side in pixels.
        neck (str): 'none' or 'fpn'. Defaults to 'none'.
        dtype (torch.dtype): Of weights and images. Defaults to float32.
        device (torch.device | str): Where they run. Defaults to 'cpu'.
        backend (str): Of the scan. Defaults to 'auto'.
        exit_ratios (Sequence[float]): MambaScope's, one subject each.
            Defaults to 0, 0.25, 0.5, 0.75, 1.
        refine_ratio (float): MambaScope's. Defaults to 0.8.
        matmuls (bool): Whether ViM's matrix products are timed, too.
            Defaults to False.
        deit_arch (str | dict | None): None for DeiT of the same name.
            Defaults to None.
        reductions (Mapping[str, dict] | None): Token reductions by name, one
            subject each. Defaults to None.

    Returns:
        Subjects: Subjects with random weights, and who is absent.
    """
    device = torch.device(device)
    draw = images_of(resolution, dtype, device)
    found, absent = [], {}
    if reason := why_no_deit():
        absent[DEIT] = reason
    else:
        deit = build_deit(deit_arch or arch, resolution, neck)
        found.append(plain_subject(DEIT, cast(deit, dtype, device), draw))
    vim = cast(build_vim(arch, resolution, neck, backend), dtype, device)
    macs = model_macs(vim, resolution).full
    found.append(plain_subject(VIM, vim, draw, macs))
    if matmuls:
        products = vim_products(vim, resolution)
        found.append(
            Subject(
                PRODUCTS,
                PRODUCTS,
                lambda batch: products_run(products, batch),
                macs=sum(product.macs for product in products),
                weight_bytes=_bytes(product.weight for product in products),
            )
        )
    absent.update(unpublished(arch, reductions))
    for name, reduction in (reductions or {}).items():
        model = build_reduced(arch, resolution, reduction, neck, backend)
        model = cast(model, dtype, device)
        found.append(_reduced(name, model, resolution, draw))
    if exit_ratios:
        scope = build_scope(arch, resolution, neck, backend, refine_ratio)
        scope = cast(scope, dtype, device)
        found += _gated(scope, resolution, exit_ratios, draw)
    return Subjects(found, absent)


def plain_subject(
    name: str, model: nn.Module, draw: Draw, macs: float | None = None
) -> Subject:
    """Make a subject, also its own kind, of a model that runs as it is."""
    return Subject(
        name,
        name,
        lambda batch: forward_run(model, draw(batch)),
        macs=macs,
        weight_bytes=weight_bytes(model),
    )


def _reduced(
    name: str, model: nn.Module, resolution: int, draw: Draw
) -> Subject:
    def make(batch: int) -> Run:
        return reduced_run(model, batch, forward_run(model, draw(batch)))

    return Subject(
        name,
        REDUCED,
        make,
        macs=model_macs(model, resolution).full,
        weight_bytes=weight_bytes(model),
        model=name,
    )


def _gated(
    model: nn.Module,
    resolution: int,
    exit_ratios: Sequence[float],
    draw: Draw,
) -> list[Subject]:
    costs, size = model_macs(model, resolution), weight_bytes(model)

    def subject(ratio: float) -> Subject:
        def make(batch: int) -> Run:
            forward = forward_run(model, draw(batch))
            return forced_run(model.backbone, ratio, forward)

        return Subject(
            scope_name(ratio),
            SCOPE,
            make,
            exit_ratio=ratio,
            macs=mean_cost(costs, ratio),
            weight_bytes=size,
        )

    return [subject(ratio) for ratio in exit_ratios]


def forward_run(model: nn.Module, images: Tensor) -> Run:
    """Return a run of one forward without autograd."""

    def run() -> None:
        with torch.no_grad():
            model(images)

    return run


def weight_bytes(model: nn.Module) -> int:
    """Count the bytes of a model's parameters."""
    return _bytes(model.parameters())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)
