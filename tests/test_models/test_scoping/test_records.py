"""Records go to those who observe, and nothing is left on a module."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from mmscope.models import (
    MambaScope,
    Observed,
    VisionMamba,
    at_threshold,
    observe,
)

ARCH = {'embed_dims': 16, 'num_layers': 2}
HEAD = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 4}


def scope(**options):
    torch.manual_seed(0)
    model = MambaScope(arch=ARCH, img_size=64, exit_head=HEAD, **options)
    model.exit_head.num_updates += 1
    return model.eval()


def images(batch=2):
    return torch.randn(batch, 3, 64, 64)


def contents(model):
    """Identity of everything that lies on every module."""
    return {
        (name, key): id(value)
        for name, module in model.named_modules()
        for group in (module.__dict__, *entries(module))
        for key, value in group.items()
    }


def entries(module):
    return module._parameters, module._buffers, module._modules


@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('observed', [False, True])
@pytest.mark.parametrize(
    'build',
    [scope, lambda: scope(out_type='featmap'), lambda: VisionMamba(arch=ARCH)],
)
def test_a_forward_leaves_every_module_as_it_was(build, train, observed):
    model = build().train(train)
    before = contents(model)
    if observed:
        with observe(model) as records:
            model(images())
        assert len(records) == 1
    else:
        model(images())
    assert contents(model) == before


@pytest.mark.parametrize('train', [False, True])
def test_a_model_can_be_copied_after_a_forward_with_gradients(train):
    model = scope().train(train)
    imgs = images().requires_grad_()
    with observe(model) as records, at_threshold(model, 2.0):
        outputs = model(imgs)
        twin = copy.deepcopy(model)
    assert outputs[-1].requires_grad
    assert len(records) == 1
    assert twin.last_exit is None
    with at_threshold(twin, 0.0):
        twin.eval()(images())
    assert twin.last_exit.exited.all()


def test_a_saliency_map_keeps_neither_input_nor_graph_alive():
    model = scope()
    imgs = images().requires_grad_()
    with observe(model) as records:
        model(imgs)[0].sum().backward()
    assert imgs.grad.abs().sum() > 0
    assert not records[0].importance.requires_grad
    assert not model.last_exit.importance.requires_grad
    alive = weakref.ref(imgs)
    del imgs
    gc.collect()
    assert alive() is None


def test_training_records_keep_their_graph_and_go_with_their_list():
    model = scope().train()
    with observe(model) as records:
        model(images())
        model(images())
    first, second = records
    (first.coarse_cls.sum() + second.fine_cls.sum()).backward()
    assert model.coarse_pos_embed.grad.abs().sum() > 0
    token = weakref.ref(first.coarse_cls)
    del first, second, records
    gc.collect()
    assert token() is None


def test_observers_nest_and_each_gets_every_record():
    model = scope()
    with observe(model) as outer:
        model(images(1))
        with observe(nn.ModuleDict({'backbone': model})) as inner:
            model(images(2))
        model(images(3))
    model(images(4))
    assert [len(r.exited) for r in outer] == [1, 2, 3]
    assert [len(r.exited) for r in inner] == [2]
    assert outer[1] is not None


def test_the_outermost_observed_module_hands_out_the_records():
    class Around(Observed):
        def __init__(self):
            super().__init__()
            self.backbone = VisionMamba(arch=ARCH, img_size=64)

        def forward(self, imgs):
            with observe(self.backbone) as records:
                self.backbone(imgs)
            self.deliver(records[0])

    model = Around()
    with observe(model) as records:
        model(images())
    assert [r.lengths for r in records] == [[17, 17]]


def test_a_model_that_records_nothing_is_named():
    with pytest.raises(TypeError, match='expected a model, got str'):
        with observe('model'):
            pass
    with pytest.raises(ValueError, match='Linear has no part that records'):
        with observe(nn.Linear(2, 2)):
            pass


def test_last_exit_is_of_the_last_evaluation_and_cannot_be_set():
    model = scope()
    assert model.last_exit is None
    with at_threshold(model, 0.0):
        model(images())
    assert model.last_exit.exited.all()
    with pytest.raises(AttributeError):
        model.last_exit = None


def test_a_compiled_model_can_be_observed():
    model = VisionMamba(arch=ARCH, img_size=64).eval()
    torch._dynamo.reset()
    fast = torch.compile(model, backend='aot_eager')
    imgs = images()
    with torch.no_grad():
        expected = model(imgs)[0]
        with observe(model) as records:
            actual = [fast(imgs)[0] for _ in range(3)]
    assert [r.lengths for r in records] == 3 * [[17, 17]]
    torch.testing.assert_close(actual[2], expected)


def test_a_wrong_refine_ratio_is_found_when_it_is_set():
    with pytest.raises(ValueError, match='refine_ratio must lie in'):
        scope().refine_ratio = 7
