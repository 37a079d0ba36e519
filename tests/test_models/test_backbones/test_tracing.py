"""What walks through a model: tracers, counters, DDP."""

from functools import partial

import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.logging import MMLogger

from mmscope.analysis import stage_costs
from mmscope.models import (
    ExitOnly,
    MambaReg,
    MambaScope,
    TokenViT,
    VideoMamba,
    VisionMamba,
    observe,
)

ARCH = {'embed_dims': 16, 'num_layers': 4}
BOTH = pytest.mark.parametrize('kind', [VisionMamba, MambaScope])
MAPS = {'out_type': 'featmap', 'out_indices': (0, 2)}


def make(kind, **options):
    return kind(arch=ARCH, img_size=64, **options)


def exit_only(out_type='cls_token', **_):
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    from builders import hosts
    from mmpretrain.models import ResNet

    config = {**hosts.resnet(3), 'type': ResNet}
    return ExitOnly(backbone=config, out_type=out_type)


def reduced(**options):
    config = {'type': 'mmscope.RMeeTo', 'merge_tokens': 2}
    return make(VisionMamba, reduction=config, **options)


KINDS = {
    **{
        kind.__name__: partial(make, kind)
        for kind in (VisionMamba, VideoMamba, MambaReg, TokenViT, MambaScope)
    },
    'ExitOnly': exit_only,
    'RMeeTo': reduced,
}
EACH = pytest.mark.parametrize('kind', KINDS)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@EACH
@pytest.mark.parametrize('options', [{}, MAPS])
def test_a_traced_model_computes_the_same(kind, options):
    model = KINDS[kind](**options).eval()
    imgs = torch.randn(2, 2, 3, 64, 64).unbind()
    traced = torch.jit.trace(model, imgs[0])
    with torch.no_grad():
        for one, other in zip(traced(imgs[1]), model(imgs[1]), strict=True):
            assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@EACH
def test_mmengine_counts_a_model(kind):
    model = KINDS[kind]().eval()
    info = get_model_complexity_info(
        model, (3, 64, 64), show_table=False, show_arch=False
    )
    assert info['flops'] > 0
    params = sum(p.numel() for p in model.parameters())
    assert info['params'] == params


@pytest.mark.slow
@torch.no_grad()
def test_another_size_needs_no_other_graph():
    testing = pytest.importorskip('torch._dynamo.testing')
    graphs = testing.CompileCounter()
    arch = {'embed_dims': 16, 'num_layers': 1}
    model = VisionMamba(arch=arch, img_size=64).eval()
    compiled = torch.compile(model, backend=graphs, dynamic=True)
    for size in ((96, 160), (128, 96), (160, 192)):
        imgs = torch.randn(2, 3, *size)
        assert torch.allclose(compiled(imgs)[0], model(imgs)[0], atol=1e-5)
    assert graphs.frame_count == 1


def untrained(model):
    outputs = model.train()(torch.randn(2, 3, 64, 64))
    sum(x.square().sum() for x in outputs).backward()
    return {
        name
        for name, param in model.named_parameters()
        if param.requires_grad and param.grad is None
    }


@BOTH
@pytest.mark.parametrize(
    'options',
    [{}, MAPS, {**MAPS, 'last_norm': False}, {'out_type': 'featmap'}],
)
def test_every_parameter_is_trained_or_frozen(kind, options):
    assert not untrained(make(kind, **options))


def test_reduced_levels_leave_no_parameter_untrained_either():
    config = {'type': 'mmscope.RMeeTo', 'merge_tokens': 1}
    assert not untrained(make(VisionMamba, reduction=config, **MAPS))


def test_blocks_behind_the_last_level_do_not_run_and_cost_nothing(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    level = logger.level
    logger.setLevel('INFO')
    short = make(VisionMamba, **MAPS).eval()
    logger.setLevel(level)
    logger.removeHandler(caplog.handler)
    assert 'blocks 3 to 3 lie behind the last of out_indices' in caplog.text
    whole = make(VisionMamba, out_type='featmap', out_indices=(0, 2, 3)).eval()
    whole.load_state_dict(short.state_dict())
    imgs = torch.randn(1, 3, 64, 64)
    with observe(short) as records, torch.no_grad():
        maps, more = short(imgs), whole(imgs)
    assert records[0].lengths == [17] * 3
    assert torch.equal(maps[0], more[0])
    grid = (4, 4)
    costs = [stage_costs(m, grid).fine for m in (short, whole)]
    assert costs[1] - costs[0] == short.layer_macs(17, directions=1)
