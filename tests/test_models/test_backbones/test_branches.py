"""Both stages compiled and exported."""

import pytest
import torch
from builders.branches import (
    assert_compiles,
    assert_exported,
    assert_same,
    needs_torch_2_4,
)

from mmscope.models import CoarseBranch, FineBranch, MambaScope, VisionMamba

ARCH = {'embed_dims': 16, 'num_layers': 2}
HOSTS = {
    'cls_token': {},
    'featmap': {'out_type': 'featmap', 'out_indices': (0, 1)},
    'detail': {'score_metric': 'detail', 'token_order': 'woven'},
}


@pytest.fixture(params=HOSTS)
def backbone(request):
    torch.manual_seed(0)
    return MambaScope(arch=ARCH, img_size=64, **HOSTS[request.param]).eval()


@pytest.fixture
def imgs():
    return torch.randn(2, 3, 64, 80, generator=torch.manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize('size', [(64, 64), (50, 70)])
def test_branches_are_the_two_ends_of_the_backbone(backbone, size):
    imgs = torch.randn(2, 3, *size)
    output, state = CoarseBranch(backbone)(imgs)
    refined = FineBranch(backbone)(imgs, state)
    backbone.exit_threshold = 0.0
    assert_same(output, backbone(imgs))
    backbone.exit_threshold = None
    assert_same(refined, backbone(imgs))
    assert not torch.equal(output[-1], refined[-1])


@torch.no_grad()
def test_what_the_image_tells_is_no_part_of_the_state(backbone, imgs):
    _, state = CoarseBranch(backbone)(imgs)
    assert ('importance' in state) == (backbone.score_metric != 'detail')


@torch.no_grad()
def test_a_state_of_other_images_is_refused(backbone, imgs):
    _, state = CoarseBranch(backbone)(imgs)
    fine = FineBranch(backbone)
    with pytest.raises(ValueError, match=r'1 images of 6 .* cls \(2, 16\)'):
        fine(imgs[1:], state)
    with pytest.raises(ValueError, match=r'2 images of 4 .* tokens \(2, 6'):
        fine(imgs[..., :64], state)
    one = {name: part[1:] for name, part in state.items()}
    assert_same(fine(imgs[1:], one), [x[1:] for x in fine(imgs, state)])
    del state['tokens']
    with pytest.raises(ValueError, match='lacks tokens, it has cls'):
        fine(imgs, state)
    with pytest.raises(ValueError, match='it has nothing: give the second'):
        fine(imgs, {})


def test_a_number_of_regions_for_each_image_has_no_branch(imgs):
    backbone = MambaScope(
        arch=ARCH,
        img_size=64,
        score_metric='detail',
        refine_coverage=0.9,
    ).eval()
    _, state = CoarseBranch(backbone)(imgs)
    with pytest.raises(ValueError, match='set a refine_ratio, or call the'):
        FineBranch(backbone)(imgs, state)


def test_another_backbone_is_refused_with_its_name():
    with pytest.raises(TypeError, match='got VisionMamba; pass model.backb'):
        CoarseBranch(VisionMamba(arch=ARCH))


@needs_torch_2_4
@torch.no_grad()
def test_exported_branches_match_eager(backbone, imgs, tmp_path):
    assert_exported(backbone, imgs, tmp_path / 'c.pt2')


@needs_torch_2_4
@pytest.mark.parametrize('train', [False, True])
def test_vim_compiles_without_a_graph_break(train, imgs):
    backbone = VisionMamba(arch=ARCH, img_size=64)
    assert_compiles(backbone, backbone, (imgs,), train, least=21)


@needs_torch_2_4
@pytest.mark.parametrize('kind', ['coarse', 'fine'])
@pytest.mark.parametrize('train', [False, True])
def test_stages_compile_without_a_graph_break(kind, train, backbone, imgs):
    if kind == 'coarse':
        run, inputs = CoarseBranch(backbone), (imgs,)
    else:
        run = FineBranch(backbone)
        with torch.no_grad():
            inputs = (imgs, CoarseBranch(backbone)(imgs)[1])
    assert_compiles(backbone, run, inputs, train, least=21)


@needs_torch_2_4
@torch.no_grad()
def test_inductor_gives_the_same_features(backbone, imgs):
    if backbone.out_type == 'featmap' or backbone.token_order == 'woven':
        pytest.skip('one host is enough for the slow compiler')
    torch._dynamo.reset()
    coarse = CoarseBranch(backbone)
    fast = torch.compile(coarse, fullgraph=True)
    assert_same(fast(imgs)[0], coarse(imgs)[0])
