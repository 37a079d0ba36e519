"""The model that comes with the package, on pictures rendered on the spot."""

from __future__ import annotations

from pathlib import Path

from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmscope.evaluation import SweepResult, sweep
from mmscope.inference import from_pretrained
from mmscope.models import attach_gate
from mmscope.visualization import draw_exit_gallery, draw_scopes, evenly_by

MODEL = 'demo'
# Pictures of a seed that no training of ours has taken.
SEED = 1000


def rendered_pictures(model: nn.Module, number: int) -> DataLoader:
    """Render pictures for the model that comes with the package."""
    dataset = {
        'type': 'mmscope.RenderedObjects',
        'num_images': number,
        'seed': SEED,
        'pipeline': model.cfg.test_dataloader.dataset.pipeline,
    }
    return Runner.build_dataloader(
        {
            'batch_size': 50,
            'num_workers': 0,
            'dataset': dataset,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        },
        seed=0,
    )


def first_look(
    folder: str | Path, number: int = 200
) -> tuple[SweepResult, list[Path]]:
    """Classify, exit and draw what was refined, and who left."""
    model = from_pretrained(MODEL)
    loader = rendered_pictures(model, number)
    result = sweep(model, loader, num_quantiles=3)
    thresholds = result.rows['threshold'].tolist()
    attach_gate(model, thresholds[len(thresholds) // 2])
    folder, dataset = Path(folder), loader.dataset
    shown = evenly_by(result.images['confidence'], 4)
    (overview,) = draw_scopes(
        model,
        dataset,
        folder / 'first_look.png',
        shown,
        panel_width=1.7,
        others=['max_norm'],
    )
    gallery = draw_exit_gallery(
        model, dataset, folder / 'first_exits.png', result.images, 4
    )
    return result, [overview, gallery]
