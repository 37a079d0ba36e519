"""What the tests of the token reductions share."""

from __future__ import annotations

import pytest
import torch
from builders import released

from mmscope.models import VideoMamba, VisionMamba, observe
from mmscope.ops import why_unavailable

ARCH = {'embed_dims': 16, 'num_layers': 6}
MAPS = {'out_type': 'featmap', 'out_indices': (1, 3, 5)}
FAMILIES = pytest.mark.parametrize('family', [VisionMamba, VideoMamba])
KINDS = pytest.mark.parametrize(
    'options',
    [
        {},
        MAPS,
        {'summary_position': 'first'},
        {'summary_position': 'none', **MAPS},
    ],
    ids=['cls', 'maps', 'first', 'none'],
)


def make(reduction=None, family=VisionMamba, **options):
    torch.manual_seed(0)
    return family(
        **{'arch': ARCH, 'img_size': 48, 'patch_size': 8, **options},
        reduction=reduction,
    ).eval()


def images(count=3, height=48, width=48, seed=2):
    return torch.randn(
        count, 3, height, width, generator=torch.manual_seed(seed)
    )


def load(file, family, reduction, backend):
    """A released model with weights of its own, its head and its results."""
    config, found = released.read(file)
    if reason := why_unavailable(backend, torch.device('cpu')):
        pytest.skip(reason)
    model = released.build(
        family, config, found, scan_backend=backend, reduction=reduction
    )
    head = torch.nn.Linear(*reversed(found['sd/head.weight'].shape))
    for name in ('weight', 'bias'):
        getattr(head, name).data = found[f'sd/head.{name}']
    return model, head, found


def assert_training_recomputes(reduction, family, options):
    """Train at the lengths of evaluation; with_cp gives equal gradients."""
    results = []
    for with_cp in (False, True):
        model = make(reduction, family, with_cp=with_cp, **options).train()
        with observe(model) as records:
            out = model(images())
        assert records[0].lengths == model.reduction.lengths(model, 36)
        sum(x.square().mean() for x in out).backward()
        for name, p in model.named_parameters():
            assert p.grad.isfinite().all(), name
            # What is read out at the front has no state before it.
            assert p.grad.any() or name == 'layers.5.mixer.A_log', name
        results.append([p.grad for p in model.parameters()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def one_by_one(model, imgs, decided):
    """Run a batch, and its images alone, to equal outputs and decisions.

    Gives the record of the batch; ``decided`` names what a stage decides.
    """
    with observe(model) as records:
        together = model(imgs)
        for i in range(len(imgs)):
            alone = model(imgs[i : i + 1])
            for one, of_all in zip(alone, together, strict=True):
                torch.testing.assert_close(one[0], of_all[i])
    first, *others = records
    for i, other in enumerate(others):
        for a, b in zip(first.reductions, other.reductions, strict=True):
            of_batch = getattr(a, decided)[i : i + 1]
            assert torch.equal(of_batch, getattr(b, decided))
    # Images decide by themselves: no two alike.
    assert len(getattr(first.reductions[-1], decided).unique(dim=0)) == 3
    return first
