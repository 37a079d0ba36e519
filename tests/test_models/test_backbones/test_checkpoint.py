import mmengine.runner
import pytest
import torch

from mmscope.models import MambaScope, VisionMamba

ARCH = {'embed_dims': 16, 'num_layers': 2}


def vim(**options):
    return VisionMamba(**{'arch': ARCH, 'img_size': 64, **options})


def test_position_embedding_of_another_size_is_resized():
    source, target = vim(), vim(img_size=(96, 128))
    target.load_state_dict(source.state_dict())
    pos, old = target.pos_embed, source.pos_embed
    assert pos.shape == (1, 6 * 8 + 1, 16)
    # The entry of cls moves from one middle to the other unchanged.
    assert torch.equal(pos[0, 24], old[0, 8])
    constant = vim().state_dict()
    constant['pos_embed'] = torch.ones(1, 17, 16)
    target.load_state_dict(constant)
    assert torch.allclose(target.pos_embed, torch.ones(1, 49, 16), atol=1e-5)


def test_a_vim_checkpoint_starts_a_mambascope():
    source = vim()
    model = MambaScope(arch=ARCH, img_size=64)
    result = model.load_state_dict(source.state_dict(), strict=False)
    assert all(key.startswith('reuse.') for key in result.missing_keys)
    assert torch.equal(model.pos_embed, source.pos_embed)
    assert torch.equal(model.coarse_pos_embed[0, 2], source.pos_embed[0, 8])


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_pretrained_init_cfg_loads_and_resizes(tmp_path, prefix):
    source = vim()
    path = tmp_path / 'vim.pth'
    state = {prefix + k: v for k, v in source.state_dict().items()}
    torch.save({'state_dict': state}, path)
    init = {'type': 'Pretrained', 'checkpoint': str(path)}
    if prefix:
        init['prefix'] = prefix
    model = MambaScope(arch=ARCH, img_size=96, init_cfg=init)
    model.init_weights()
    weight = 'layers.1.mixer.in_proj.weight'
    assert torch.equal(model.state_dict()[weight], source.state_dict()[weight])
    assert model.pos_embed.shape == (1, 37, 16)


@pytest.mark.parametrize(
    ('state', 'message'),
    [
        ({}, r'holds no entry for this Vis.*such as layers\.0'),
        ({'conv1.weight': torch.zeros(1)}, 'of another model'),
        ({'rope.freqs_cos': torch.zeros(1)}, 'rotary position'),
        (vim(arch={**ARCH, 'embed_dims': 32}).state_dict(), 'another arch'),
        (
            vim(arch={**ARCH, 'num_layers': 3}).state_dict(),
            '3 blocks, expected 2',
        ),
        (
            vim(in_channels=4).state_dict(),
            r'in_channels 4, expected 3: set backbone\.in_channels=4$',
        ),
        (
            {
                k: v
                for k, v in vim(patch_size=8, in_channels=1)
                .state_dict()
                .items()
                if k != '_extra_state'
            },
            r'patch_size 8, expected 16: set .*in_channels=1 and .*=8$',
        ),
    ],
)
def test_checkpoints_of_other_models_are_refused(state, message):
    for strict in (True, False):
        with pytest.raises(ValueError, match=message):
            vim().load_state_dict(state, strict=strict)


def test_a_host_whose_backbone_gets_nothing_is_told_the_name():
    host = torch.nn.ModuleDict({'backbone': vim()})
    state = {f'module.{k}': v for k, v in host.state_dict().items()}
    with pytest.raises(ValueError, match=r"begins with 'backbone\.'.*wrapper"):
        host.load_state_dict(state, strict=False)


def test_mmengine_cannot_load_another_model_in_silence(tmp_path):
    path = tmp_path / 'resnet.pth'
    torch.save({'state_dict': {'conv1.weight': torch.zeros(1)}}, path)
    with pytest.raises(ValueError, match='of another model'):
        mmengine.runner.load_checkpoint(vim(), str(path))


def test_a_non_square_embedding_of_unknown_origin_and_size_is_refused():
    state = vim(img_size=(32, 96)).state_dict()
    del state['_extra_state']
    with pytest.raises(ValueError, match='not a square grid'):
        vim().load_state_dict(state)
    same = vim(img_size=(32, 96))
    same.load_state_dict(state)


def test_a_table_put_in_by_hand_is_taken_for_what_it_is():
    source = vim(img_size=(32, 96))
    state = source.state_dict()
    state['pos_embed'] = torch.ones(1, 26, 16)
    target = vim()
    target.load_state_dict(state)
    assert torch.allclose(target.pos_embed, torch.ones(1, 17, 16))


def without_entry(model):
    state = model.state_dict()
    return {k: v for k, v in state.items() if k != '_extra_state'}


@pytest.mark.parametrize('size', [(48, 80), (64, 64)])
def test_an_old_vim_loads_into_one_without_cls_token(size):
    arch = {'embed_dims': 16, 'num_layers': 2}
    vim = VisionMamba(arch=arch, img_size=size)
    dense = VisionMamba(
        arch=arch, img_size=size, summary_position='none', out_type='featmap'
    )
    # 3 x 5 cells and cls are 16 entries, and 4 x 4 cells are as many.
    dense.load_state_dict(without_entry(vim))
    cells = vim.grid[0] * vim.grid[1]
    middle = cells // 2
    kept = [i for i in range(cells + 1) if i != middle]
    assert torch.equal(dense.pos_embed, vim.pos_embed[:, kept])


def test_an_old_vim_of_an_odd_grid_loads_into_a_scope_of_its_size():
    arch = {'embed_dims': 16, 'num_layers': 2}
    old = without_entry(VisionMamba(arch=arch, img_size=(48, 112)))
    scope = MambaScope(arch=arch, img_size=(48, 112))
    scope.load_state_dict(old, strict=False)
    assert scope.grid == (4, 8)
    assert torch.equal(scope.cls_token, old['cls_token'])
