"""Records and thresholds belong to one model, whoever else runs."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

from mmscope.models import MambaScope, at_threshold, observe

EXIT_HEAD = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 4}
THRESHOLDS = (0.0, 2.0, None)
ROUNDS = 12


def build(seed):
    torch.manual_seed(seed)
    return MambaScope(
        arch={'embed_dims': 8, 'num_layers': 2},
        img_size=64,
        exit_head=EXIT_HEAD,
        exit_threshold=0.5,
    ).eval()


def run(model, seed, number, meet):
    """Let thresholds take turns; give (η, record, output) a forward."""
    images = torch.Generator().manual_seed(seed)
    found = []
    for index in range(ROUNDS):
        imgs = torch.randn(number, 3, 64, 64, generator=images)
        # Both models enter and leave their blocks side by side.
        meet.wait(timeout=60)
        eta = THRESHOLDS[(index + seed) % len(THRESHOLDS)]
        with torch.no_grad(), at_threshold(model, eta):
            with observe(model) as records:
                meet.wait(timeout=60)
                (output,) = model(imgs)
                meet.wait(timeout=60)
            (record,) = records
        found.append((eta, record, output))
    return found


def test_two_models_in_two_threads_do_not_mix():
    models = [build(seed) for seed in (0, 1)]
    numbers = (2, 3)
    meet = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(run, model, seed, number, meet)
            for seed, (model, number) in enumerate(
                zip(models, numbers, strict=True)
            )
        ]
        found = [job.result(timeout=120) for job in jobs]
    for seed, (model, number) in enumerate(zip(models, numbers, strict=True)):
        assert model.exit_threshold == 0.5
        alone = run(model, seed, number, Barrier(1))
        for here, there in zip(found[seed], alone, strict=True):
            eta, record, output = here
            assert record.exited.tolist() == number * [eta == 0.0]
            assert (record.confidence is None) == (eta is None)
            assert torch.equal(record.importance, there[1].importance)
            assert torch.equal(output, there[2])


def test_last_exit_is_that_of_the_model_itself():
    first, second = build(0), build(1)
    imgs = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        with at_threshold(first, 0.0), at_threshold(second, 2.0):
            first(imgs)
            second(imgs)
    assert first.last_exit.exited.all()
    assert not second.last_exit.exited.any()
