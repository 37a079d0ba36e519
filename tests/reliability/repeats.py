"""Same decisions in any batch, and no growth of memory.

    python -m reliability.repeats [--images 200] [--forwards 2000]
        [--steps 500] [--model CHECKPOINT --folder CLASSES] [--json FILE]

in the folder ``tests``, on the model that comes with the package and the
pictures that it renders, or on a checkpoint of ``tools/train.py`` and images
in a folder a class. Decisions at five thresholds, in batches of 1, 3 and 8
with one and two threads; the resident set over gated forwards of changing
sizes, and over training steps.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmscope.datasets import RenderedObjects
from mmscope.inference import from_pretrained
from mmscope.models import at_threshold, observe

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
SIDES = (32, 48, 64, 80, 96)
LOOKS = 5


def pictures(model: nn.Module, number: int, folder: str | None) -> list[dict]:
    """Items for ``model.test_step``, of a folder evenly spread over it."""
    pipeline = model.cfg.test_dataloader.dataset.pipeline
    if folder is None:
        dataset = RenderedObjects(number, seed=5, pipeline=pipeline)
    else:
        from mmpretrain.datasets import CustomDataset

        dataset = CustomDataset(data_root=folder, pipeline=pipeline)
    return [dataset[i * len(dataset) // number] for i in range(number)]


def decide(
    model: nn.Module, items: list[dict], size: int, eta: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, exit and predicted class of each image."""
    found = []
    with torch.no_grad(), at_threshold(model, eta):
        for start in range(0, len(items), size):
            with observe(model) as records:
                results = model.test_step(
                    pseudo_collate(items[start : start + size])
                )
            labels = torch.cat([r.pred_label for r in results])
            record = records[0]
            found.append((record.confidence, record.exited, labels))
    return tuple(
        torch.cat(column).numpy() for column in zip(*found, strict=True)
    )


def between(confidences: np.ndarray) -> list[float]:
    """Five thresholds between two confidences: rounding decides nothing."""
    sure = np.sort(confidences)
    places = [int(q * (len(sure) - 1)) for q in QUANTILES]
    return [float(sure[i] + sure[i + 1]) / 2 for i in places]


def decisions(model: nn.Module, items: list[dict]) -> dict:
    """Compare each setting with single images and one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    etas = between(decide(model, items, 1, 2.0)[0])
    truth = {eta: decide(model, items, 1, eta) for eta in etas}
    rows = []
    for size in (1, 3, 8):
        for count in (1, 2):
            torch.set_num_threads(count)
            row = {'batch': size, 'threads': count, 'exits': 0, 'classes': 0}
            for eta, (_, exited, labels) in truth.items():
                _, other, others = decide(model, items, size, eta)
                row['exits'] += int((other != exited).sum())
                row['classes'] += int((others != labels).sum())
            rows.append(row)
    torch.set_num_threads(threads)
    return {'images': len(items), 'thresholds': etas, 'rows': rows}


def grow(run: Callable[[int], object], number: int) -> list[float]:
    """Resident set in MiB at evenly spread moments, the first one early."""
    process, seen = psutil.Process(), []
    moments = {number * look // LOOKS for look in range(1, LOOKS + 1)}
    for step in range(1, number + 1):
        run(step)
        if step in moments:
            seen.append(round(process.memory_info().rss / 2**20, 1))
    return seen


def forward(model: nn.Module) -> Callable[[int], object]:
    """Gated forwards of changing sizes."""
    generator = torch.Generator().manual_seed(0)

    def run(step: int) -> object:
        side = SIDES[step % len(SIDES)]
        imgs = torch.randn(4, 3, side, side, generator=generator)
        with torch.no_grad(), at_threshold(model, 0.5):
            return model.backbone(imgs)

    return run


def train(model: nn.Module, items: list[dict]) -> Callable[[int], object]:
    """Training steps of the host."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)

    def run(step: int) -> object:
        model.train()
        data = model.data_preprocessor(pseudo_collate(items), True)
        losses = model(**data, mode='loss')
        total: Tensor = sum(v for k, v in losses.items() if 'loss' in k)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        model.eval()

    return run


def main(argv: list[str] | None = None) -> None:
    """Measure, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=200)
    parser.add_argument('--forwards', type=int, default=2000)
    parser.add_argument('--steps', type=int, default=500)
    parser.add_argument('--model', default='demo')
    parser.add_argument('--folder')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args(argv)
    model = from_pretrained(args.model, device='cpu')
    items = pictures(model, args.images, args.folder)
    command = (
        f'python -m reliability.repeats --images {args.images} '
        f'--forwards {args.forwards} --steps {args.steps}'
    )
    if args.folder:
        # Of this machine; the page says which they were.
        command += ' --model CHECKPOINT --folder CLASSES'
    result = {
        'command': command,
        'decisions': decisions(model, items),
        'forwards': args.forwards,
        'forwards_mib': grow(forward(model), args.forwards),
        'steps': args.steps,
        'steps_mib': grow(train(model, items[:8]), args.steps),
    }
    text = json.dumps(result, indent=1) + '\n'
    (args.json.write_text if args.json else sys.stdout.write)(text)


if __name__ == '__main__':
    main()
