"""Every leaf config loads, builds with its host, and says what it is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope

pytest.importorskip('mmseg.models')

from mmscope.models import observe, reduces_tokens

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
LEAVES = sorted(
    path.relative_to(CONFIGS)
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts
)
# On a backbone of the host: their shapes are tested with those of others.
# Backbones of the hosts, not of ours.
FOREIGN = [
    p
    for p in LEAVES
    if 'resnet50' in p.stem or p.match('coco/deit_ti_cascade_mask_rcnn.py')
]
SEGMENTATION = [
    p
    for p in LEAVES
    if p.parts[0] in ('ade20k', 'camvid') and p not in FOREIGN
]
# Complete experiments of our own, not deltas of the paper's.
LENGTHS = {
    'bccd/vim_half_cascade_rcnn.py': 100,
    'camvid/vim_half_upernet.py': 110,
    'cifar10/vim_mini.py': 120,
    'imagenette/vim_mini_96.py': 90,
    'demo/mambascope_nano.py': 100,
    'coco/mambascope_ti_cascade_mask_rcnn_mini.py': 120,
}
ARCHS = {
    'ti': 'tiny',
    's': 'small',
    'b': 'base',
    'mini': {'embed_dims': 64, 'num_layers': 8},
    'nano': {'embed_dims': 64, 'num_layers': 6},
    'half': {'embed_dims': 96, 'num_layers': 12},
}
# First word or words of a name.
KINDS = {
    'vim': 'VisionMamba',
    'r_meeto': 'VisionMamba',
    'ha': 'VisionMamba',
    'dyvm': 'VisionMamba',
    'mambascope': 'MambaScope',
    'videomamba': 'VideoMamba',
    'videomamba_scope': 'VideoMambaScope',
    'mamba_reg': 'MambaReg',
    'mambareg_scope': 'MambaRegScope',
    'deit': 'TokenViT',
    'vit_scope': 'ViTScope',
}
# ViTDet's baseline is mmpretrain's.
SCOPES = ('mmseg', 'mmdet', 'mmpretrain')
# Backbone + neck + decode head + auxiliary head (+ exit head), 150 classes.
PARAMETERS = {
    'ade20k/vim_ti_upernet.py': 12_311_660,
    'ade20k/vim_s_upernet.py': 45_449_132,
    'ade20k/mambascope_ti_upernet.py': 12_685_826,
    'ade20k/mambascope_s_upernet.py': 46_787_138,
    # As ViM's and MambaScope's: other places, not other weights.
    'ade20k/videomamba_ti_upernet.py': 12_311_660,
    'ade20k/videomamba_scope_ti_upernet.py': 12_685_826,
    'ade20k/dyvm_ti_upernet.py': 12_530_354,
    'ade20k/dyvm_s_upernet.py': 46_245_890,
    'ade20k/resnet50_upernet.py': 66_516_108,
    'ade20k/deit_ti_upernet.py': 10_881_068,
    'ade20k/deit_s_upernet.py': 41_703_212,
}
TINY = {
    'model.backbone.arch._delete_': True,
    'model.backbone.arch.embed_dims': 16,
    'model.backbone.arch.num_layers': 4,
    'model.backbone.img_size': 64,
    'model.backbone.out_indices': (0, 1, 2, 3),
    'model.backbone.init_cfg': None,
    'model.neck.embed_dim': 16,
    'model.neck.norm_cfg.type': 'BN',
    'model.decode_head.in_channels': [16] * 4,
    'model.decode_head.channels': 16,
    'model.decode_head.norm_cfg.type': 'BN',
    'model.auxiliary_head.in_channels': 16,
    'model.auxiliary_head.channels': 16,
    'model.auxiliary_head.norm_cfg.type': 'BN',
    'model.data_preprocessor.size': (64, 64),
}


@pytest.fixture(params=SCOPES)
def scope(request):
    pytest.importorskip(f'{request.param}.models')
    return request.param


def load(leaf, **options):
    cfg = Config.fromfile(CONFIGS / leaf)
    cfg.merge_from_dict({'model.backbone.init_cfg': None, **options})
    return cfg


def load_tiny(leaf):
    """The leaf with a model of four blocks."""
    options = dict(TINY)
    if leaf.stem.startswith('dyvm'):
        options['model.backbone.reduction.prune_layers'] = (1, 2, 3)
    return load(leaf, **options)


def build(cfg):
    """Build as an inferencer inside another host does."""
    return MODELS.build({**cfg.model, '_scope_': cfg.default_scope})


def unprefixed(node):
    """Copy a config tree without the prefix of our types."""
    if isinstance(node, dict):
        copied = {key: unprefixed(value) for key, value in node.items()}
        if isinstance(copied.get('type'), str):
            copied['type'] = copied['type'].removeprefix('mmscope.')
        return copied
    if isinstance(node, (list, tuple)):
        return type(node)(unprefixed(value) for value in node)
    return node


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_header_says_row_host_command_cost_and_both_scores(leaf):
    text = (CONFIGS / leaf).read_text()
    header = re.match(r'"""(.*?)"""', text, re.DOTALL)[1]
    assert 5 <= len(header.strip().splitlines()) <= 11
    assert f'python tools/train.py configs/{leaf}' in header
    for word in ('Host: ', 'Cost: ', 'Paper: ', 'Ours: '):
        assert word in header
    assert len(text.splitlines()) <= LENGTHS.get(str(leaf), 42)


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_the_cost_in_a_header_is_the_schedule_of_the_config(leaf):
    header = (CONFIGS / leaf).read_text().split('"""')[1]
    said = re.search(r'^Cost: +(.*)$', header, re.MULTILINE)[1]
    loop = load(leaf).train_cfg
    stated = re.match(r'([\d,]+) (epochs|steps) of', said)
    if stated is None:  # a small experiment that was timed
        assert 'CPU core' in said
        return
    number, unit = int(stated[1].replace(',', '')), stated[2]
    key = 'max_epochs' if unit == 'epochs' else 'max_iters'
    assert loop[key] == number


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_a_kill_while_a_checkpoint_is_written_leaves_another(leaf):
    # MMEngine removes the old one before it writes.
    hooks = load(leaf).default_hooks
    assert hooks.checkpoint.get('max_keep_ckpts', -1) != 1


@pytest.mark.parametrize(
    'leaf', [leaf for leaf in LEAVES if leaf not in FOREIGN], ids=str
)
def test_name_matches_the_model(leaf):
    cfg = load(leaf)
    kind = max(
        (name for name in KINDS if leaf.stem.startswith(f'{name}_')), key=len
    )
    size = leaf.stem.removeprefix(f'{kind}_').split('_')[0]
    assert cfg.model.backbone.arch == ARCHS[size]
    assert cfg.model.backbone.type == f'mmscope.{KINDS[kind]}'


@pytest.mark.parametrize(
    'leaf', [leaf for leaf in FOREIGN if 'resnet50' in leaf.stem], ids=str
)
def test_a_baseline_is_a_resnet_50_of_its_host(leaf):
    backbone = load(leaf).model.backbone
    wrapped = leaf.stem.startswith('exit_only_')
    assert (backbone.type == 'mmscope.ExitOnly') is wrapped
    backbone = backbone.backbone if wrapped else backbone
    assert backbone.type in ('ResNet', 'ResNetV1c')
    assert backbone.depth == 50


@pytest.mark.parametrize('leaf', sorted(PARAMETERS), ids=str)
def test_leaf_builds_under_every_default_scope(leaf, scope):
    with DefaultScope.overwrite_default_scope(scope):
        model = build(load(leaf))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[leaf]


@pytest.mark.parametrize('prefix', [True, False])
@pytest.mark.parametrize('leaf', SEGMENTATION, ids=str)
def test_tiny_leaf_builds_with_and_without_prefix(leaf, prefix, scope):
    importlib.import_module('mmscope')  # what custom_imports does
    cfg = load(leaf, **TINY)
    if not prefix:
        cfg.model = unprefixed(cfg.model.to_dict())
    with DefaultScope.overwrite_default_scope(scope):
        backbone = MODELS.build(cfg.model.backbone)
        model = build(cfg)
    assert type(model.backbone) is type(backbone)


def train_step(cfg, height=64, width=64):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = build(cfg)
    samples = []
    for _ in range(2):
        sample = SegDataSample()
        labels = torch.randint(0, 11, (1, height, width))
        sample.gt_sem_seg = PixelData(data=labels)
        sample.set_metainfo({'img_shape': (height, width)})
        samples.append(sample)
    images = [torch.randint(0, 256, (3, height, width)).float()] * 2
    data = model.data_preprocessor(
        {'inputs': images, 'data_samples': samples}, training=True
    )
    with observe(model) as records:
        losses = model(**data, mode='loss')
    if reduces_tokens(model):
        # As the hook does.
        losses |= model.backbone.reduction.losses(*records)
    total, _ = model.parse_losses(losses)
    total.backward()
    return model, losses


@pytest.mark.parametrize('leaf', SEGMENTATION, ids=str)
def test_tiny_leaf_trains_every_parameter(leaf):
    model, losses = train_step(load_tiny(leaf))
    values = [v for v in losses.values() if isinstance(v, torch.Tensor)]
    assert all(torch.isfinite(value).all() for value in values)
    untouched = [
        name for name, p in model.named_parameters() if p.grad is None
    ]
    assert not untouched


@pytest.mark.parametrize('leaf', SEGMENTATION, ids=str)
def test_weight_decay_spares_rates_norms_biases_and_positions(leaf):
    cfg = load_tiny(leaf)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = build(cfg)
        constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
            {
                'type': cfg.optim_wrapper.pop(
                    'constructor', 'DefaultOptimWrapperConstructor'
                ),
                'paramwise_cfg': cfg.optim_wrapper.pop('paramwise_cfg'),
                'optim_wrapper_cfg': cfg.optim_wrapper,
            }
        )
        optimizer = constructor(model).optimizer
    full = cfg.optim_wrapper.optimizer.weight_decay
    assert full > 0
    decays = {
        id(p): group['weight_decay']
        for group in optimizer.param_groups
        for p in group['params']
    }
    spared = re.compile(
        r'(A_log|A_b_log|mixer\.D|mixer\.D_b|bias|pos_embed|cls_token)$'
        r'|norm|\.ln[12]\.|\.bn\.|upsample_4x\.1\.|score_predictors\.\d\.in_conv\.0'
    )
    for name, parameter in model.named_parameters():
        expected = 0.0 if spared.search(name) else full
        assert decays[id(parameter)] == expected, name


def test_layer_decay_slows_early_blocks():
    cfg = load('ade20k/mambascope_ti_upernet_ld.py', **TINY)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = build(cfg)
        constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
            {
                'type': cfg.optim_wrapper.pop('constructor'),
                'paramwise_cfg': cfg.optim_wrapper.pop('paramwise_cfg'),
                'optim_wrapper_cfg': cfg.optim_wrapper,
            }
        )
        groups = constructor(model).optimizer.param_groups
    rates = {id(p): g['lr'] for g in groups for p in g['params']}
    blocks = [rates[id(layer.norm.weight)] for layer in model.backbone.layers]
    head = rates[id(model.decode_head.conv_seg.weight)]
    assert head == pytest.approx(6e-5)
    for early, late in zip(blocks, [*blocks[1:], head], strict=True):
        assert early == pytest.approx(0.92 * late)


def test_recipe_is_the_paper_s():
    cfg = load('ade20k/mambascope_ti_upernet.py')
    assert cfg.train_cfg.max_iters == 160_000
    assert cfg.train_dataloader.batch_size == 16
    warmup, decay = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 1500)
    assert (decay.begin, decay.end, decay.power) == (1500, 160_000, 1.0)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr) == ('AdamW', 6e-5)
    assert optimizer.weight_decay == 0.01


@pytest.mark.parametrize(
    ('size', 'ratio', 'rate', 'batch'),
    [('ti', 0.9, 6e-5, 16), ('s', 0.8, 1.2e-4, 32)],
)
def test_dyvm_s_recipe_is_its_authors(size, ratio, rate, batch):
    cfg = load(f'ade20k/dyvm_{size}_upernet.py')
    reduction = cfg.model.backbone.reduction
    assert reduction.token_keep_ratio == ratio
    assert reduction.ratio_weight == 20
    assert cfg.model.backbone.summary_position == 'none'
    assert cfg.train_cfg.max_iters == 160_000
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == batch
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (rate, 0.01)
    assert cfg.optim_wrapper.clip_grad.max_norm == 5
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.92
    test = cfg.model.test_cfg
    assert (test.mode, test.stride) == ('slide', (341, 341))
    kinds = [hook.type for hook in cfg.custom_hooks]
    assert 'mmscope.TokenReductionHook' in kinds


def test_data_roots_come_from_the_environment(monkeypatch):
    for variable, leaf, default in (
        (
            'MMSCOPE_ADE20K',
            'ade20k/vim_ti_upernet.py',
            'data/ade/ADEChallengeData2016',
        ),
        ('MMSCOPE_CAMVID', 'camvid/vim_ti_upernet.py', 'data/camvid'),
    ):
        monkeypatch.delenv(variable, raising=False)
        assert load(leaf).train_dataloader.dataset.data_root == default
        monkeypatch.setenv(variable, '/some/where')
        cfg = load(leaf)
        for split in ('train', 'val', 'test'):
            loader = cfg[f'{split}_dataloader']
            assert loader.dataset.data_root == '/some/where'


def test_camvid_is_tested_on_its_test_split():
    cfg = load('camvid/mambascope_ti_upernet.py')
    for name, split in (
        ('train', 'training'),
        ('val', 'validation'),
        ('test', 'test'),
    ):
        prefix = cfg[f'{name}_dataloader'].dataset.data_prefix
        assert prefix.img_path == f'images/{split}'
        assert prefix.seg_map_path == f'annotations/{split}'


def test_init_cfg_none_on_the_command_line_is_none():
    from mmengine.config import DictAction

    value = DictAction._parse_iterable('None')
    cfg = Config.fromfile(CONFIGS / 'ade20k/vim_ti_upernet.py')
    assert cfg.model.backbone.init_cfg.type == 'Pretrained'
    cfg.merge_from_dict({'model.backbone.init_cfg': value})
    assert cfg.model.backbone.init_cfg is None


@pytest.mark.parametrize(
    ('leaf', 'name'),
    [
        ('ade20k/videomamba_ti_upernet.py', 'videomamba_ti_in1k'),
        ('ade20k/videomamba_scope_ti_upernet.py', 'videomamba_scope_ti_in1k'),
        ('ade20k/deit_ti_upernet.py', 'deit_ti_in1k'),
        ('ade20k/deit_s_upernet.py', 'deit_s_in1k'),
        (
            'coco/videomamba_scope_ti_cascade_mask_rcnn.py',
            'videomamba_scope_ti_in1k',
        ),
    ],
)
def test_a_family_starts_from_weights_of_its_own(leaf, name):
    assert Config.fromfile(CONFIGS / leaf).model.backbone.init_cfg == {
        'type': 'Pretrained',
        'checkpoint': f'checkpoints/{name}.pth',
        'prefix': 'backbone.',
    }
