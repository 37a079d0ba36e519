"""Whole models of configs, timed by their real ``test_step``."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from mmengine.dataset import pseudo_collate
from torch import nn

from mmscope.analysis import mean_cost, model_costs
from mmscope.analysis.detectors import sees_regions
from mmscope.benchmark.exits import forced_run
from mmscope.benchmark.models import SCOPE, VIM
from mmscope.benchmark.subjects import Subject, Subjects, weight_bytes
from mmscope.errors import UserError
from mmscope.evaluation.interleaved_timing import Run, synchronize
from mmscope.evaluation.loading import (
    build_dataloader,
    build_model,
    input_shape,
    open_config,
)
from mmscope.models import (
    CoarseToFine,
    TokenBackbone,
    at_threshold,
    attach_gate,
    is_two_stage,
    observe,
)


@dataclass
class ConfigModel:
    """A host's model of a config with images that lie ready.

    ``items`` are images as the pipeline gives them, each loaded in
    ``load_ms``; ``shape`` is the config's (height, width), ``dtype`` that of
    autocast.
    """

    name: str
    model: nn.Module
    items: list[dict]
    load_ms: float
    shape: tuple[int, int]
    dtype: torch.dtype = torch.float32

    @property
    def backbone(self) -> nn.Module:
        """Backbone of the model."""
        return self.model.backbone

    def batches(self, size: int) -> list[dict]:
        """Group the images in batches of one size; the rest is left out."""
        return [
            pseudo_collate(self.items[i : i + size])
            for i in range(0, len(self.items) - size + 1, size)
        ]

    def forward(self, size: int) -> Run:
        """Return a run of ``test_step`` that goes through the batches."""
        batches = itertools.cycle(self.batches(size))
        device = next(self.model.parameters()).device.type

        def run() -> None:
            cast = nullcontext()
            if self.dtype != torch.float32:
                cast = torch.autocast(device, self.dtype)
            with cast:
                self.model.test_step(next(batches))

        return run


def open_config_model(
    config: str,
    checkpoint: str | None,
    num_images: int,
    *,
    device: torch.device | str = 'cpu',
    dtype: torch.dtype = torch.float32,
    backend: str = 'auto',
    cfg_options: dict | None = None,
) -> ConfigModel:
    """Build a config's model and load so many images of its test data.

    Without a checkpoint weights are random; ``dtype`` is that of autocast,
    ``cfg_options`` are overrides by dotted key.

    Raises:
        UserError: If config, checkpoint or data are at fault.
    """
    options = {'model.backbone.init_cfg': None, **(cfg_options or {})}
    cfg = open_config(config, options)
    model = build_model(cfg, checkpoint, device)
    if backend != 'auto':
        _use_backend(model, backend)
    if is_two_stage(model):
        attach_gate(model)
    items, load_ms = _load(build_dataloader(cfg).dataset, num_images)
    shape = input_shape(cfg, model)
    return ConfigModel(Path(config).stem, model, items, load_ms, shape, dtype)


def distinct_names(configs: Sequence[str]) -> list[str]:
    """Name each model of a command line, one config's checkpoints included.

    That is the stem of the file; where several have it 'folder/stem', and
    where these are the same, too, a number behind the second and later ones.
    """
    stems = Counter(Path(config).stem for config in configs)
    seen, names = Counter(), []
    for path in map(Path, configs):
        name = path.stem
        if stems[name] > 1:
            name = (Path(path.parent.name) / name).as_posix()
        seen[name] += 1
        names.append(f'{name} ({seen[name]})' if seen[name] > 1 else name)
    return names


def _use_backend(model: nn.Module, backend: str) -> None:
    """Let every scan run there; a model without scans has none to move."""
    for module in model.modules():
        if hasattr(module, 'scan_backend'):
            module.scan_backend = backend


def _load(dataset: Sequence[dict], number: int) -> tuple[list[dict], float]:
    if len(dataset) < number:
        raise UserError(
            f'{number} images are to be timed, the test data has '
            f'{len(dataset)}: lower --batch-sizes or --images'
        )
    start = time.perf_counter()
    items = [dataset[index] for index in range(number)]
    return items, 1e3 * (time.perf_counter() - start) / number


@contextmanager
def _timed_preprocessing(model: nn.Module) -> Iterator[list[float]]:
    """Collect the seconds of the data preprocessor, one a forward."""
    module, seconds, started = model.data_preprocessor, [], [0.0]
    device = next(model.parameters()).device

    def start(*_: object) -> None:
        synchronize(device)
        started[0] = time.perf_counter()

    def stop(*_: object) -> None:
        synchronize(device)
        seconds.append(time.perf_counter() - started[0])

    with ExitStack() as hooks:
        hooks.callback(module.register_forward_pre_hook(start).remove)
        hooks.callback(module.register_forward_hook(stop).remove)
        yield seconds


def config_subjects(
    sources: Sequence[ConfigModel],
    exit_ratios: Sequence[float],
    thresholds: Sequence[float],
) -> Subjects:
    """List each model, those that can exit once a ratio and threshold."""
    found = []
    for source in sources:
        if not is_two_stage(source.model):
            found.append(_subject(source))
            continue
        for ratio in exit_ratios:
            wrap = partial(forced_run, source.backbone, ratio)
            name = f' {100 * ratio:g} %'
            found.append(_subject(source, name, wrap, ratio))
        for threshold in thresholds:
            wrap = partial(_gated, source.model, threshold)
            found.append(_subject(source, f' η {threshold:g}', wrap))
    return Subjects(found)


def _gated(model: nn.Module, threshold: float, forward: Run) -> Run:
    def run() -> None:
        with at_threshold(model, threshold):
            forward()

    return run


def _subject(
    source: ConfigModel,
    label: str = '',
    wrap: Callable[[Run], Run] = lambda run: run,
    exit_ratio: float | None = None,
) -> Subject:
    two_stage = is_two_stage(source.model)
    macs = None
    # What a detector's box and mask heads cost depends on the proposals, and
    # with coverage a scope costs what the images ask for.
    varies = two_stage and source.backbone.by_coverage
    known = not (varies or sees_regions(source.model))
    if known and (exit_ratio is not None or not two_stage):
        costs = model_costs(source.model, source.shape, 'exact')
        macs = mean_cost(costs, exit_ratio or 0.0)
    made: dict[int, Run] = {}

    def make(batch: int) -> Run:
        made[batch] = wrap(source.forward(batch))
        return made[batch]

    return Subject(
        source.name + label,
        _kind(source.backbone),
        make,
        exit_ratio=exit_ratio,
        macs=macs,
        weight_bytes=weight_bytes(source.model),
        model=source.name,
        images=len(source.items),
        details=lambda batch: _details(source, made[batch], batch),
    )


def _kind(backbone: nn.Module) -> str:
    if isinstance(backbone, CoarseToFine):
        return SCOPE
    ours = isinstance(backbone, TokenBackbone)
    return VIM if ours else type(backbone).__name__


def _details(source: ConfigModel, run: Run, batch: int) -> dict:
    """Split the time, and count who exited; runs every batch once more."""
    two_stage = is_two_stage(source.model)
    # Another host's backbone has nothing to observe.
    observed = observe(source.model) if two_stage else nullcontext([])
    timed = _timed_preprocessing(source.model)
    with observed as records, timed as seconds:
        for _ in range(max(len(source.items) // batch, 1)):
            run()
    found = {
        'load_ms': source.load_ms,
        'preprocess_ms': 1e3 * statistics.median(seconds) / batch,
    }
    if two_stage:
        exited = torch.cat([record.exited for record in records])
        found['exited'] = float(exited.float().mean())
    return found
