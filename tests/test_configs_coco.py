"""The detection configs: sizes, recipe, canvas, and one small real step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import (
    DATASETS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    DefaultScope,
)

pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
from mmscope.datasets import CocoDetectionDataset, DatasetLayoutError
from mmscope.datasets.class_check import check_heads

CONFIGS = Path(__file__).parents[1] / 'configs/coco'
STEM = '{}_ti_cascade_mask_rcnn{}'
# Backbone + neck + RPN + three box heads + one mask head (+ exit head).
PARAMETERS = {
    STEM.format('vim', ''): 60_080_654,
    STEM.format('vim', '_lite'): 37_320_590,
    STEM.format('mambascope', ''): 60_588_766,
    STEM.format('mambascope', '_lite'): 37_828_702,
    STEM.format('mambascope', '_detail'): 60_588_766,
    STEM.format('videomamba_scope', ''): 60_588_766,
    STEM.format('deit', ''): 58_649_294,
}
TINY = {
    'model.backbone.arch._delete_': True,
    'model.backbone.arch.embed_dims': 16,
    'model.backbone.arch.num_layers': 2,
    'model.backbone.img_size': 64,
    'model.backbone.drop_path_rate': 0.0,
    'model.neck.backbone_channels': 16,
    'model.neck.out_channels': 8,
    'model.rpn_head.in_channels': 8,
    'model.rpn_head.feat_channels': 8,
    'model.roi_head.bbox_roi_extractor.out_channels': 8,
    'model.roi_head.mask_roi_extractor.out_channels': 8,
    'model.roi_head.mask_head.in_channels': 8,
    'model.roi_head.mask_head.conv_out_channels': 8,
    'model.data_preprocessor.pad_size_divisor': 64,
    **{
        f'model.roi_head.bbox_head.{i}.{key}': value
        for i in range(3)
        for key, value in (
            ('in_channels', 8),
            ('conv_out_channels', 8),
            ('fc_out_channels', 16),
        )
    },
}


# Of mmpretrain's transformer.
TINY_VIT = {
    **TINY,
    'model.backbone.arch.num_heads': 2,
    'model.backbone.arch.feedforward_channels': 32,
    'model.backbone.arch.global_attn_indexes': [1],
    'model.backbone.window_size': 3,
}


def load(stem, **options):
    cfg = Config.fromfile(CONFIGS / f'{stem}.py')
    cfg.merge_from_dict({'model.backbone.init_cfg': None, **options})
    return cfg


def build(cfg, device='cpu', scope='mmdet'):
    """Build, also as an inferencer inside another host does."""
    with DefaultScope.overwrite_default_scope(scope), torch.device(device):
        return MODELS.build({**cfg.model, '_scope_': cfg.default_scope})


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_these_are_all_the_configs_of_the_paper_s_size():
    # These two learn a few images by heart.
    small = {STEM.format('mambascope', end) for end in ('_mini', '_plain')}
    stems = {path.stem for path in CONFIGS.glob('*.py')}
    assert stems - small == set(PARAMETERS)


@pytest.mark.parametrize('scope', ['mmseg', 'mmpretrain'])
@pytest.mark.parametrize('kind', ['vim', 'mambascope', 'deit'])
def test_a_config_builds_inside_another_host(kind, scope):
    pytest.importorskip(f'{scope}.models')
    stem = STEM.format(kind, '')
    assert count(build(load(stem), 'meta', scope)) == PARAMETERS[stem]


@pytest.mark.parametrize('stem', PARAMETERS)
def test_parameters_are_those_of_the_recipe(stem):
    model = build(load(stem), 'meta')
    assert count(model) == PARAMETERS[stem]
    assert (
        round(count(model) / 1e6, 1)
        == {
            'vim': {'': 60.1, '_lite': 37.3},
            'mambascope': {'': 60.6, '_lite': 37.8},
            'videomamba_scope': {'': 60.6},
            'deit': {'': 58.6},
        }[stem.split('_ti_')[0]]['_lite' if stem.endswith('_lite') else '']
    )
    header = (CONFIGS / f'{stem}.py').read_text().split('"""')[1]
    assert f'{count(model) / 1e6:.2f} M parameters' in header


def test_the_transformer_has_windows_and_vitdets_rates():
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    cfg = load(STEM.format('deit', ''), **TINY_VIT)
    model = build(cfg)
    assert [layer.window_size for layer in model.backbone.layers] == [3, 0]
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        {
            'type': cfg.optim_wrapper.pop('constructor'),
            'paramwise_cfg': cfg.optim_wrapper.pop('paramwise_cfg'),
            'optim_wrapper_cfg': cfg.optim_wrapper,
        }
    )
    groups = constructor(model).optimizer.param_groups
    by_id = {id(p): g for g in groups for p in g['params']}
    rates = [
        by_id[id(p)]['lr']
        for p in (
            model.backbone.pos_embed,
            model.backbone.layers[0].attn.qkv.weight,
            model.backbone.layers[1].attn.qkv.weight,
        )
    ]
    assert rates == pytest.approx([1e-4 * 0.7**i for i in (3, 2, 1)])
    assert by_id[id(model.backbone.pos_embed)]['weight_decay'] == 0.0


def test_mambascope_adds_a_coarse_position_a_reuse_mlp_and_an_exit_head():
    vim = count(build(load(STEM.format('vim', '')), 'meta').backbone)
    ours = build(load(STEM.format('mambascope', '')), 'meta').backbone
    added = ours.coarse_pos_embed.numel() + count(ours.reuse)
    assert count(ours) == vim + added + count(ours.exit_head)
    assert ours.coarse_pos_embed.shape == (1, 32 * 32 + 1, 192)
    assert ours.pos_embed.shape == (1, 64 * 64 + 1, 192)
    assert ours.exit_head.num_classes == 80


def test_layer_widths_are_vim_s():
    for suffix, width, hidden in (('', 256, 1024), ('_lite', 192, 768)):
        model = build(load(STEM.format('vim', suffix)), 'meta')
        assert len(model.rpn_head.rpn_conv) == 2
        for head in model.roi_head.bbox_head:
            assert len(head.shared_convs) == 4
            assert len(head.shared_fcs) == 1
            assert head.shared_fcs[0].weight.shape == (hidden, 49 * width)
            assert head.fc_reg.out_features == 4
        assert len(model.roi_head.mask_head) == 1
        norms = [m for m in model.modules() if type(m).__name__ == 'LN2d']
        # Neck: two a level and one between the deconvolutions.
        assert len(norms) == 9 + 3 * 4 + 4
        assert {norm.eps for norm in norms} == {1e-6}


def test_recipe_is_the_paper_s():
    cfg = load(STEM.format('mambascope', ''))
    assert cfg.train_cfg.max_iters == 380_000
    assert cfg.train_dataloader.batch_size * 8 == 64
    assert cfg.auto_scale_lr.base_batch_size == 64
    warmup, decay = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 250)
    assert (decay.begin, decay.end, decay.power) == (250, 380_000, 1.0)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr) == ('AdamW', 1e-4)
    assert optimizer.weight_decay == 0.1
    init = Config.fromfile(
        CONFIGS / f'{STEM.format("mambascope", "")}.py'
    ).model.backbone.init_cfg
    assert init.checkpoint == 'checkpoints/mambascope_ti_in1k.pth'


def test_rates_fall_by_0_837_a_layer_and_norms_do_not_decay():
    cfg = load(STEM.format('mambascope', ''), **TINY)
    model = build(cfg)
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        {
            'type': cfg.optim_wrapper.pop('constructor'),
            'paramwise_cfg': cfg.optim_wrapper.pop('paramwise_cfg'),
            'optim_wrapper_cfg': cfg.optim_wrapper,
        }
    )
    groups = constructor(model).optimizer.param_groups
    by_id = {id(p): g for g in groups for p in g['params']}

    def rate(parameter):
        return by_id[id(parameter)]['lr']

    blocks = [rate(b.mixer.in_proj.weight) for b in model.backbone.layers]
    head = rate(model.rpn_head.rpn_cls.weight)
    assert head == pytest.approx(1e-4)
    assert rate(model.neck.levels[0][0].weight) == head
    assert blocks[1] == pytest.approx(0.837 * head)
    assert blocks[0] == pytest.approx(0.837**2 * head)
    assert rate(model.backbone.pos_embed) == pytest.approx(0.837**3 * head)
    for name, parameter in model.named_parameters():
        module = model.get_submodule(name.rpartition('.')[0])
        spared = 'Norm' in type(module).__name__ or isinstance(
            module, torch.nn.LayerNorm
        )
        spared |= name.endswith(
            ('bias', 'A_log', 'A_b_log', '.D', '.D_b', 'embed', 'cls_token')
        )
        wanted = 0.0 if spared else 0.1
        assert by_id[id(parameter)]['weight_decay'] == wanted, name


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('size', [(1024, 640), (100, 30), (1024, 1024)])
def test_every_image_is_padded_to_the_same_square(training, size):
    cfg = load(STEM.format('vim', ''))
    with DefaultScope.overwrite_default_scope('mmdet'):
        processor = MODELS.build(cfg.model.data_preprocessor)
    image = torch.zeros(3, *size, dtype=torch.uint8)
    data = processor({'inputs': [image], 'data_samples': None}, training)
    assert data['inputs'].shape == (1, 3, 1024, 1024)
    # Padding is the mean colour, whatever the image.
    assert data['inputs'][0, :, size[0] :].abs().sum() == 0


def run(pipeline, size, instances):
    from mmcv.transforms import Compose

    results = {
        'img': np.full((*size, 3), 90, np.uint8),
        'img_path': 'none.jpg',
        'img_id': 0,
        'img_shape': size,
        'ori_shape': size,
        'height': size[0],
        'width': size[1],
        'instances': instances,
    }
    with DefaultScope.overwrite_default_scope('mmdet'):
        return Compose(pipeline[1:])(results)


def instance(x, y, w, h):
    corners = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {
        'bbox': [x, y, x + w, y + h],
        'bbox_label': 0,
        'ignore_flag': 0,
        'mask': [corners],
    }


def test_large_scale_jitter_never_exceeds_the_canvas():
    cfg = load(STEM.format('vim', ''))
    np.random.seed(0)
    sides, empty = [], 0
    for _ in range(14):
        packed = run(cfg.train_pipeline, (480, 640), [instance(5, 5, 30, 40)])
        height, width = packed['inputs'].shape[-2:]
        sides.append(width)
        assert max(height, width) <= 1024
        found = packed['data_samples'].gt_instances
        empty += len(found) == 0
        assert found.masks.masks.shape == (len(found), height, width)
    assert min(sides) < 640
    assert max(sides) == 1024
    assert empty > 0


@pytest.mark.parametrize('size', [(480, 640), (2000, 300), (50, 60)])
def test_the_longer_side_is_1024_in_test(size):
    cfg = load(STEM.format('vim', ''))
    packed = run(cfg.test_pipeline, size, [])
    assert max(packed['inputs'].shape[-2:]) == 1024
    assert packed['data_samples'].ori_shape == size


# The words of the data page for "shorter side 1024".
SHORTER_SIDE = {
    'test_dataloader.dataset.pipeline.1.scale': (8192, 1024),
    'model.data_preprocessor.pad_size_divisor': 32,
}


@pytest.mark.parametrize(
    ('size', 'wanted'),
    [
        ((480, 640), (1024, 1365)),
        ((500, 100), (5120, 1024)),
        ((100, 500), (1024, 5120)),
        ((50, 600), (683, 8192)),
    ],
)
def test_the_shorter_side_is_1024_where_asked_for(size, wanted):
    cfg = load(STEM.format('vim', ''), **SHORTER_SIDE)
    pipeline = cfg.test_dataloader.dataset.pipeline
    assert run(pipeline, size, [])['inputs'].shape[-2:] == wanted


@torch.no_grad()
def test_a_batch_of_any_aspect_ratio_predicts_in_its_own_coordinates():
    tiny = {**TINY, **SHORTER_SIDE}
    tiny['test_dataloader.dataset.pipeline.1.scale'] = (512, 64)
    cfg = load(STEM.format('mambascope', ''), **tiny)
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    torch.manual_seed(0)
    model = build(cfg).eval()
    # Height, width; the second is 1:5, the third 5:1.
    sizes = [(48, 64), (30, 150), (150, 30), (40, 40)]
    pipeline = cfg.test_dataloader.dataset.pipeline
    packed = [run(pipeline, size, []) for size in sizes]
    shapes = [tuple(one['inputs'].shape[-2:]) for one in packed]
    assert shapes == [(64, 85), (64, 320), (320, 64), (64, 64)]
    data = model.data_preprocessor(
        {key: [one[key] for one in packed] for key in packed[0]}, False
    )
    # No square here: the canvas is the batch's.
    assert data['inputs'].shape[-2:] == (320, 320)
    results = model(**data, mode='predict')
    for size, result in zip(sizes, results, strict=True):
        found = result.pred_instances
        assert len(found) > 0
        assert found.masks.shape[-2:] == size
        limits = torch.tensor([size[1], size[0]] * 2) + 1e-3
        assert (found.bboxes >= 0).all()
        assert (found.bboxes <= limits).all()


@pytest.mark.parametrize('folder', ['coco', 'bccd'])
def test_data_that_is_not_there_is_said_by_every_config(
    folder, tmp_path, monkeypatch
):
    # The environment variable of the page, and the message names it.
    variable = f'MMSCOPE_{folder.upper()}'
    monkeypatch.setenv(variable, str(tmp_path / 'none'))
    for path in sorted((CONFIGS.parent / folder).glob('*.py')):
        cfg = Config.fromfile(path)
        for split in ('train', 'val', 'test'):
            data = cfg[f'{split}_dataloader'].dataset
            assert data.type == 'mmscope.CocoDetectionDataset'
        with DefaultScope.overwrite_default_scope('mmdet'):
            with pytest.raises(DatasetLayoutError, match=variable) as error:
                DATASETS.build(data)
        assert f'{tmp_path}/none/annotations/instances_' in str(error.value)


@pytest.mark.parametrize('folder', ['coco', 'bccd'])
def test_every_config_has_one_number_of_classes_and_checks_it(folder):
    classes = {
        'coco': CocoDetectionDataset.METAINFO['classes'],
        'bccd': ('RBC', 'WBC', 'Platelets'),
    }[folder]
    for path in sorted((CONFIGS.parent / folder).glob('*.py')):
        cfg = Config.fromfile(path)
        hooks = [hook.type for hook in cfg.custom_hooks]
        assert hooks[-1] == 'mmscope.ClassCheckHook'
        model = build(cfg, 'meta')
        data = SimpleNamespace(metainfo={'classes': classes})
        check_heads(model, data, cfg.model)
        data.metainfo['classes'] = classes[:2]
        with pytest.raises(DatasetLayoutError) as error:
            check_heads(model, data, cfg.model)
        for i in range(3):
            key = f'model.roi_head.bbox_head.{i}.num_classes=2'
            assert key in str(error.value)
        early = 'model.backbone.exit_head.num_classes=2' in str(error.value)
        assert early == ('scope' in path.stem)


def test_the_data_root_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv('MMSCOPE_COCO', raising=False)
    cfg = load(STEM.format('vim', ''))
    assert cfg.val_dataloader.dataset.data_root == 'data/coco'
    monkeypatch.setenv('MMSCOPE_COCO', '/some/where')
    cfg = load(STEM.format('mambascope', '_lite'))
    for split, year in (('train', 'train2017'), ('val', 'val2017')):
        data = cfg[f'{split}_dataloader'].dataset
        assert data.data_root == '/some/where'
        assert data.ann_file == f'annotations/instances_{year}.json'
    path = '/some/where/annotations/instances_val2017.json'
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == path


def train_step(cfg):
    """Build a model and let it learn from one image with one object."""
    torch.manual_seed(0)
    model = build(cfg)
    model.train()
    # Load, annotate, pack; nothing in between.
    pipeline = [*cfg.train_pipeline[:2], cfg.test_pipeline[-1]]
    sample = run(pipeline, (64, 48), [instance(4, 8, 30, 40)])
    data = model.data_preprocessor(
        {
            'inputs': [sample['inputs']],
            'data_samples': [sample['data_samples']],
        },
        training=True,
    )
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    return model, data


@pytest.mark.parametrize('stem', PARAMETERS)
def test_tiny_leaf_trains_every_parameter_and_predicts(stem):
    cfg = load(stem, **(TINY_VIT if 'deit' in stem else TINY))
    model, data = train_step(cfg)
    data['data_samples'][0].set_metainfo({'scale_factor': (1.0, 1.0)})
    with torch.no_grad():
        model.eval()
        (result,) = model(**data, mode='predict')
    found = result.pred_instances
    assert found.masks.shape == (len(found), 64, 48)


@pytest.mark.parametrize(
    'path',
    sorted((CONFIGS.parent / 'bccd').glob('*.py')),
    ids=lambda p: p.stem,
)
def test_a_tiny_model_of_blood_cells_trains_every_parameter(path):
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({k: v for k, v in TINY.items() if 'mask' not in k})
    train_step(cfg)
