"""The ImageNet configs train as they are, and ablations change one field."""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope
from PIL import Image

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

from mmengine.runner import Runner

from mmscope.analysis.costs import stage_costs

CONFIGS = Path(__file__).parents[1] / 'configs'
PARAMETERS = {
    'imagenet/vim_ti.py': 7_148_008,
    'imagenet/vim_s.py': 25_796_584,
    'imagenet/vim_b.py': 97_598_440,
    'imagenet/mambascope_ti.py': 7_453_480,
    'imagenet/mambascope_s.py': 26_997_352,
    'imagenet/mambascope_b.py': 102_359_272,
    # 533 places more than 14 x 14.
    'imagenet/vim_ti_plus.py': 7_148_008 + 533 * 192,
    'imagenet/vim_s_plus.py': 25_796_584 + 533 * 384,
    'imagenet/r_meeto_ti.py': 7_148_008,
    'imagenet/r_meeto_s.py': 25_796_584,
    'imagenet/r_meeto_b.py': 97_598_440,
    'imagenet/dyvm_ti.py': 7_367_086,
    'imagenet/dyvm_s.py': 26_594_110,
    'imagenet/dyvm_b.py': 100_631_134,
    'imagenet/ha_ti.py': 7_148_008,
    'imagenet/ha_s.py': 25_796_584,
    'imagenet/ha_s_no_alignment.py': 25_796_584,
    'imagenet/videomamba_ti.py': 7_148_008,
    'imagenet/videomamba_s.py': 25_796_584,
    'imagenet/videomamba_scope_ti.py': 7_453_480,
    'imagenet/videomamba_scope_s.py': 26_997_352,
    'imagenet/mamba_reg_s.py': 27_801_064,
    'imagenet/mambareg_scope_s.py': 29_001_448,
    'imagenet/deit_ti.py': 5_717_416,
    'imagenet/deit_s.py': 22_050_664,
    'imagenet/vit_scope_s.py': 23_251_432,
    # 900 classes fewer, each 384 weights and a bias.
    'miniimagenet/mambascope_s.py': 26_997_352 - 900 * 385,
}
PLUS = ('imagenet/vim_ti_plus.py', 'imagenet/vim_s_plus.py')
MERGED = tuple(f'imagenet/r_meeto_{size}.py' for size in ('ti', 's', 'b'))
PRUNED = tuple(
    f'imagenet/ha_{name}.py' for name in ('ti', 's', 's_no_alignment')
)
DYNAMIC = tuple(f'imagenet/dyvm_{size}.py' for size in ('ti', 's', 'b'))
FINE_TUNED = {*PLUS, *MERGED, *PRUNED, *DYNAMIC}
TRAINED = sorted(
    set(PARAMETERS) - FINE_TUNED - {'miniimagenet/mambascope_s.py'}
)
ONE_STAGE = sorted(
    leaf
    for leaf in PARAMETERS
    if 'scope' not in leaf and leaf.startswith('imagenet/')
)
# Rows of the paper's tables and ours in them: field -> file name -> value.
ROWS = {
    'score_metric': {
        'l2_norm': 'l2_norm',
        'no_clip': 'none',
        'clip': 'clip',
        'softplus': 'softplus',
        'topk': 'topk',
        'max_norm': 'max_norm',
        'detail': 'detail',
        'detail_and_max_norm': 'detail_and_max_norm',
    },
    'refine_ratio': {f'ratio_0_{i}': i / 10 for i in range(5, 10)},
    'score_momentum': {
        'beta_0': 0.0,
        'beta_0_5': 0.5,
        'beta_0_9': 0.9,
        'beta_0_99': 0.99,
        'beta_0_999': 0.999,
    },
    'score_layers': {
        'layers_6': [18, 20, 22],
        'layers_12': [12, 14, 16, 18, 20, 22],
        'layers_18': [6, 8, 10, 12, 14, 16, 18, 20, 22],
    },
    'feature_reuse': {
        'reuse_mlp': 'mlp',
        'reuse_cls': 'mlp_with_cls',
        'reuse_fc': 'linear',
    },
    'cls_position': {'cls_ahead': 'ahead', 'cls_behind': 'behind'},
    'token_order': {
        'order_first': 'first',
        'order_last': 'last',
        'order_woven': 'woven',
    },
}
ABLATIONS = {
    f'miniimagenet/mambascope_s_{name}.py': (field, value)
    for field, rows in ROWS.items()
    for name, value in rows.items()
} | {
    f'imagenet/mambascope_s_{name}.py': ('refine_ratio', value)
    for name, value in ROWS['refine_ratio'].items()
}
# Of no table: several fields at once.
OURS = {
    f'imagenet/mambascope_{size}_detail{half}.py': ratio
    for size in ('ti', 's')
    for half, ratio in (('', 0.8), ('_ratio_0_5', 0.5))
}
CLASSES = 6
TINY = {
    'model.backbone.arch': {
        '_delete_': True,
        'embed_dims': 16,
        'num_layers': 4,
    },
    'model.backbone.img_size': 64,
    'model.head.in_channels': 16,
    'model.head.num_classes': CLASSES,
    'model.data_preprocessor.num_classes': CLASSES,
}
SMALL_RUN = {
    'train_dataloader.batch_size': CLASSES,
    'train_dataloader.dataset.pipeline.1.scale': 64,
    'train_cfg.max_epochs': 2,
    'param_scheduler.0.end': 1,
    'param_scheduler.1.begin': 1,
    'param_scheduler.1.end': 2,
    **{
        f'{loader}_dataloader.{key}': value
        for loader in ('train', 'val', 'test')
        for key, value in (('num_workers', 0), ('persistent_workers', False))
    },
    **{
        f'{loader}_dataloader.dataset.pipeline.{key}': value
        for loader in ('val', 'test')
        for key, value in (('1.scale', 72), ('2.crop_size', 64))
    },
}


@functools.cache
def read(leaf):
    return Config.fromfile(CONFIGS / leaf)


def load(leaf, **options):
    cfg = copy.deepcopy(read(str(leaf)))
    cfg.merge_from_dict(options)
    return cfg


def build(cfg, device='cpu', scope='mmpretrain'):
    # Without weights a model of 100 M parameters is there at once.
    with DefaultScope.overwrite_default_scope(scope), torch.device(device):
        return MODELS.build({**cfg.model, '_scope_': cfg.default_scope})


def find(hooks, kind):
    (found,) = (hook for hook in hooks if hook['type'] == kind)
    return found


@functools.cache
def base_value(field):
    """What the ablations' base model has where an ablation differs."""
    backbone = build(read('miniimagenet/mambascope_s.py'), 'meta').backbone
    value = getattr(backbone, field)
    return list(value) if field == 'score_layers' else value


def flat(node, key=''):
    """Dotted key -> value of a config tree."""
    if isinstance(node, dict):
        parts = (flat(v, f'{key}.{k}') for k, v in node.items())
        return {k: v for part in parts for k, v in part.items()}
    return {key: node}


@pytest.mark.parametrize('leaf', sorted(PARAMETERS))
def test_parameters_are_exact_and_stand_in_the_header(leaf):
    model = build(load(leaf), 'meta')
    count = sum(p.numel() for p in model.parameters())
    assert count == PARAMETERS[leaf]
    assert f'{count:,} parameters' in (CONFIGS / leaf).read_text()


@pytest.mark.parametrize('leaf', ONE_STAGE)
def test_costs_in_the_headers_are_computed(leaf):
    model = build(load(leaf), 'meta')
    backbone, head = model.backbone, model.head.fc.weight.numel()
    (printed,) = re.findall(r'([\d.]+) GMACs', (CONFIGS / leaf).read_text())
    cost = stage_costs(backbone, backbone.grid).fine + head
    assert float(printed) == pytest.approx(cost / 1e9, abs=0.0005)


def test_table_5_costs_in_the_headers_are_computed():
    for name, ratio in ROWS['refine_ratio'].items():
        leaf = f'imagenet/mambascope_s_{name}.py'
        text = (CONFIGS / leaf).read_text()
        (printed,) = re.findall(r'([\d.]+) GMACs', text)
        backbone = build(load(leaf), 'meta').backbone
        assert backbone.refine_ratio == ratio
        assert float(printed) == pytest.approx(
            stage_costs(backbone, (7, 7)).fine / 1e9, abs=0.005
        )


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet'])
@pytest.mark.parametrize(
    'leaf',
    [
        'vim_ti',
        'mambascope_ti',
        'videomamba_ti',
        'videomamba_scope_ti',
        'mamba_reg_s',
        'mambareg_scope_s',
        'deit_s',
        'vit_scope_s',
    ],
)
def test_it_builds_inside_another_host(leaf, scope):
    pytest.importorskip(f'{scope}.models')
    build(load(f'imagenet/{leaf}.py'), 'meta', scope)


@pytest.mark.parametrize('leaf', TRAINED)
def test_recipe_is_the_paper_s_and_vim_s_where_that_is_silent(leaf):
    cfg = load(leaf)
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.train_dataloader.batch_size == 256
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': 256}
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr) == ('AdamW', 1e-3)
    assert (optimizer.weight_decay, optimizer.betas[0]) == (0.05, 0.9)
    warmup, cosine = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 5)
    assert cosine.type == 'CosineAnnealingLR'
    assert (cosine.begin, cosine.end, cosine.eta_min) == (5, 300, 1e-5)
    # Decay 0.99996.
    assert find(cfg.custom_hooks, 'EMAHook').momentum == 4e-5
    assert cfg.model.head.loss.label_smooth_val == 0.1
    mixup, cutmix = cfg.model.train_cfg.augments
    assert (mixup.alpha, cutmix.alpha) == (0.8, 1.0)
    pipeline = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert pipeline['RandomErasing'].erase_prob == 0.25
    assert pipeline['RandAugment'].magnitude_level == 9
    rates = {'ti': 0.0, 's': 0.05, 'b': 0.1}
    if 'videomamba' in leaf:
        rates['s'] = 0.15
    if 'deit' in leaf or 'vit_scope' in leaf:
        rates['ti'] = rates['s'] = 0.1
    size = Path(leaf).stem.split('_')[-1]
    assert cfg.model.backbone.drop_path_rate == rates[size]


@pytest.mark.parametrize('leaf', PLUS)
def test_stride_8_is_fine_tuned_as_vim_s_authors_do(leaf):
    cfg = load(leaf)
    backbone = build(cfg, 'meta').backbone
    assert (backbone.patch_stride, backbone.grid) == (8, (27, 27))
    assert cfg.load_from == f'checkpoints/{Path(leaf).stem}_in1k.pth'
    assert cfg.train_cfg.max_epochs == 30
    assert cfg.train_dataloader.batch_size == 128
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': 1024}
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (1e-5, 1e-8)
    (constant,) = cfg.param_scheduler
    assert (constant.type, constant.factor) == ('ConstantLR', 1.0)
    # The plain weights are scored: no average.
    (hook,) = cfg.custom_hooks
    assert hook.type == 'mmscope.ClassCheckHook'
    assert cfg.model.backbone.drop_path_rate == 0.0


@pytest.mark.parametrize('leaf', MERGED)
def test_r_meeto_is_re_trained_as_its_authors_do(leaf):
    cfg = load(leaf)
    size = Path(leaf).stem.split('_')[-1]
    reduction = build(cfg, 'meta').backbone.reduction
    assert type(reduction).__name__ == 'RMeeTo'
    assert reduction.merge_tokens == {'ti': 5, 's': 11, 'b': 11}[size]
    assert reduction.merge_interval == 2
    assert cfg.train_cfg.max_epochs == {'ti': 30, 's': 15, 'b': 15}[size]
    assert cfg.train_dataloader.batch_size == 512
    assert cfg.model.backbone.drop_path_rate == 0.1
    # Everything decays.
    assert cfg.optim_wrapper == {
        'type': 'OptimWrapper',
        'optimizer': {'type': 'AdamW', 'lr': 2e-5, 'weight_decay': 0.05},
    }
    (cosine,) = cfg.param_scheduler
    assert (cosine.type, cosine.eta_min) == ('CosineAnnealingLR', 1e-6)
    kinds = [hook.type for hook in cfg.custom_hooks]
    assert ('EMAHook' in kinds) == (size == 'b')


@pytest.mark.parametrize('leaf', DYNAMIC)
def test_dyvm_is_trained_as_its_authors_do(leaf):
    cfg = load(leaf)
    size = Path(leaf).stem.split('_')[-1]
    reduction = build(cfg, 'meta').backbone.reduction
    assert type(reduction).__name__ == 'DyVM'
    assert reduction.prune_layers == (6, 12, 18)
    ratios = (reduction.token_keep_ratio, reduction.block_keep_ratio)
    wanted = {'ti': (0.9, 0.8), 's': (0.7, 0.8), 'b': (0.7, 0.7)}
    assert ratios == wanted[size]
    assert cfg.train_cfg.max_epochs == 30
    batch = {'ti': 512, 's': 256, 'b': 128}[size]
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == batch
    optimizer = cfg.optim_wrapper.optimizer
    rate = {'ti': 3e-5, 's': 5e-5, 'b': 5e-5}[size] * batch / 512
    assert optimizer.lr == pytest.approx(rate)
    assert optimizer.weight_decay == 1e-8
    warmup, cosine = cfg.param_scheduler
    assert warmup.start_factor * rate == pytest.approx(1e-5)
    assert (cosine.begin, cosine.end, cosine.eta_min) == (5, 30, 1e-6)
    assert cfg.model.backbone.drop_path_rate == 0.0
    find(cfg.custom_hooks, 'mmscope.TokenReductionHook')


@pytest.mark.parametrize('leaf', [*MERGED, *DYNAMIC])
def test_a_student_learns_from_the_model_that_it_starts_from(leaf):
    model = build(load(leaf), 'meta')
    assert type(model).__name__ == 'DistilledClassifier'
    merges = leaf in MERGED
    assert model.distill_weight == 0.5
    assert model.token_weight == (0 if merges else 0.5)
    if not merges:
        assert model.backbone.reduction.ratio_weight == 10
    assert model.teacher_checkpoint == load(leaf).load_from
    size = Path(leaf).stem.split('_')[-1]
    assert model.teacher_checkpoint == f'checkpoints/vim_{size}_in1k.pth'
    teacher_config = {**model.teacher_config, '_scope_': 'mmpretrain'}
    with torch.device('meta'):
        teacher = MODELS.build(teacher_config)
    assert teacher.backbone.reduction is None
    count = sum(p.numel() for p in teacher.parameters())
    assert count == PARAMETERS[f'imagenet/vim_{size}.py']


@pytest.mark.parametrize('leaf', PRUNED)
def test_ha_is_fine_tuned_as_its_logs_say(leaf):
    cfg = load(leaf)
    reduction = build(cfg, 'meta').backbone.reduction
    assert type(reduction).__name__ == 'HiddenAlign'
    assert (reduction.prune_layers, reduction.keep_ratio) == (
        ((10, 20), 0.85) if leaf.endswith('ti.py') else ((5, 10, 15), 0.8)
    )
    aligned = 'decay' if 'no_alignment' not in leaf else 'none'
    assert reduction.alignment == aligned
    assert cfg.train_cfg.max_epochs == 30
    assert cfg.train_dataloader.batch_size == 512
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (1e-5, 1e-8)
    (constant,) = cfg.param_scheduler
    assert (constant.type, constant.factor) == ('ConstantLR', 1.0)
    (hook,) = cfg.custom_hooks
    assert hook.type == 'mmscope.ClassCheckHook'
    assert cfg.model.backbone.drop_path_rate == 0.0
    size = Path(leaf).stem.split('_')[1]
    assert cfg.load_from == f'checkpoints/vim_{size}_in1k.pth'


def test_images_are_224_wide_cropped_from_256():
    cfg = load('imagenet/vim_ti.py')
    train = cfg.train_dataloader.dataset.pipeline
    assert (train[1].type, train[1].scale) == ('RandomResizedCrop', 224)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        _, resize, crop, _ = loader.dataset.pipeline
        assert (resize.scale, resize.interpolation) == (256, 'bicubic')
        assert (crop.type, crop.crop_size) == ('CenterCrop', 224)
    assert cfg.model.backbone.img_size == 224


def test_selection_begins_at_epoch_200_with_the_paper_s_values():
    cfg = load('imagenet/mambascope_s.py')
    hook = find(cfg.custom_hooks, 'mmscope.InformativeSelectionHook')
    assert (hook.begin, hook.by_epoch) == (200, True)
    assert cfg.model.backbone.refine_ratio == 0.8
    assert cfg.model.backbone.score_momentum == 0.99


def test_every_ablation_is_a_row_and_every_row_a_config():
    found = {
        str(path.relative_to(CONFIGS))
        for folder in ('imagenet', 'miniimagenet')
        for path in (CONFIGS / folder).glob('mambascope_s_*.py')
    }
    assert found - set(OURS) == set(ABLATIONS)


@pytest.mark.parametrize('leaf', OURS)
def test_ours_refines_what_halving_loses_and_trains_as_the_paper(leaf):
    cfg, base = load(leaf), load(re.sub('_detail.*py', '.py', leaf))
    ours = cfg.model.backbone
    wanted = {
        'score_metric': 'detail',
        'token_order': 'woven',
        'refine_ratio': OURS[leaf],
    }
    assert {key: ours[key] for key in wanted} == wanted
    base.merge_from_dict({'model.backbone': wanted})
    assert flat(cfg._cfg_dict) == flat(base._cfg_dict)


@pytest.mark.parametrize('leaf', ABLATIONS)
def test_an_ablation_changes_one_field_of_the_model(leaf):
    field, value = ABLATIONS[leaf]
    base = load(Path(leaf).with_name('mambascope_s.py'))
    cfg = load(leaf)
    backbone = cfg.model.pop('backbone')
    base_backbone = base.model.pop('backbone')
    assert flat(cfg._cfg_dict) == flat(base._cfg_dict)
    assert backbone.pop(field) == value
    base_backbone.pop(field, None)
    assert flat(backbone) == flat(base_backbone)


@pytest.mark.parametrize('leaf', ABLATIONS)
def test_a_row_that_is_the_base_model_says_so(leaf):
    field, value = ABLATIONS[leaf]
    same = base_value(field) == value
    text = (CONFIGS / leaf).read_text()
    assert ('The same model as mambascope_s.py' in text) == same
    assert 'model = dict(backbone=' in text.splitlines()[-1]


def test_ablated_models_build():
    for leaf, (field, value) in ABLATIONS.items():
        built = getattr(build(load(leaf), 'meta').backbone, field)
        assert built == (tuple(value) if field == 'score_layers' else value)


def test_a_class_list_takes_100_classes_of_imagenet(monkeypatch):
    monkeypatch.delenv('MMSCOPE_MINIIMAGENET', raising=False)
    monkeypatch.delenv('MMSCOPE_MINIIMAGENET_CLASSES', raising=False)
    dataset = read.__wrapped__(
        'miniimagenet/mambascope_s.py'
    ).val_dataloader.dataset
    assert dataset.data_root == 'data/miniimagenet'
    assert dataset.class_list == 'all'
    monkeypatch.setenv('MMSCOPE_MINIIMAGENET', '/imagenet')
    monkeypatch.setenv('MMSCOPE_MINIIMAGENET_CLASSES', 'classes.txt')
    cfg = read.__wrapped__('miniimagenet/mambascope_s.py')
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.data_root == '/imagenet'
        assert dataset.class_list == 'classes.txt'


@pytest.mark.parametrize('leaf', ['vim_ti', 'mambascope_ti'])
def test_weight_decay_spares_rates_norms_biases_and_positions(leaf):
    cfg = load(f'imagenet/{leaf}.py', **TINY)
    model = build(cfg)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
            {
                'type': cfg.optim_wrapper.pop('constructor'),
                'paramwise_cfg': cfg.optim_wrapper.pop('paramwise_cfg'),
                'optim_wrapper_cfg': cfg.optim_wrapper,
            }
        )
        groups = constructor(model).optimizer.param_groups
    decays = {id(p): g['weight_decay'] for g in groups for p in g['params']}
    spared = re.compile(
        r'(A_log|A_b_log|mixer\.D|mixer\.D_b|bias|pos_embed|cls_token)$|norm'
    )
    for name, parameter in model.named_parameters():
        expected = 0.0 if spared.search(name) else 0.05
        assert decays[id(parameter)] == expected, name


class Watch(Hook):
    """Notes what each training step saw."""

    priority = 'LOWEST'

    def __init__(self):
        self.selection, self.scores = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        backbone = runner.model.backbone
        self.selection.append(getattr(backbone, 'selection', None))
        torch.manual_seed(0)
        data = runner.model.data_preprocessor(data_batch, training=True)
        samples = data['data_samples']
        self.scores += [s.gt_score for s in samples]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Six classes of two training images and one for validation."""
    root = tmp_path_factory.mktemp('imagenet')
    for split, count in (('train', 2), ('val', 1)):
        for label in range(CLASSES):
            place = root / split / f'n{label:02d}'
            place.mkdir(parents=True)
            for index in range(count):
                colour = (40 * label, 255 - 40 * label, 60 * index)
                image = Image.new('RGB', (90, 80), colour)
                image.save(place / f'{index}.JPEG')
    return root


# Sizes differ by arch, which is shrunk here, and drop path alone.
@pytest.mark.parametrize(
    'leaf',
    [
        f'imagenet/{name}.py'
        for name in ('vim_s', 'mambascope_ti', 'videomamba_scope_ti')
    ],
)
def test_it_trains_and_tests_in_a_runner(leaf, folder, tmp_path):
    cfg = load(leaf, **TINY, **SMALL_RUN)
    for loader in ('train', 'val', 'test'):
        cfg[f'{loader}_dataloader'].dataset.data_root = str(folder)
    two_stage = 'scope' in leaf
    if two_stage:
        hooks = cfg.custom_hooks
        find(hooks, 'mmscope.InformativeSelectionHook').begin = 1
    cfg.work_dir = str(tmp_path)
    cfg.visualizer.name = str(tmp_path)
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    # Twelve images, six a step, in each of two epochs.
    assert watch.selection == (
        [False] * 2 + [True] * 2 if two_stage else [None] * 4
    )
    # Mixup or CutMix made some labels soft.
    assert any(((s > 0) & (s < 1)).any() for s in watch.scores)

    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    average, last = saved['state_dict'], saved['ema_state_dict']
    assert not torch.equal(
        average['head.fc.weight'], last['module.head.fc.weight']
    )

    cfg.load_from = str(tmp_path / 'epoch_2.pth')
    if two_stage:
        find(hooks, 'mmscope.ConfidenceGateHook').exit_threshold = 0.0
    tester = Runner.from_cfg(cfg)
    metrics = tester.test()
    assert 0 <= metrics['accuracy/top1'] <= metrics['accuracy/top5'] <= 100
    if two_stage:
        assert metrics['early_exit/exit_ratio'] == 1.0


def test_random_erasing_leaves_the_mean_colour_as_noise():
    from mmpretrain.registry import TRANSFORMS

    cfg = load('imagenet/vim_ti.py')
    erasing = dict(cfg.train_dataloader.dataset.pipeline[-2])
    erasing['erase_prob'] = 1.0
    image = torch.zeros(224, 224, 3, dtype=torch.uint8).numpy()
    erased = TRANSFORMS.build(erasing)({'img': image.copy()})['img']
    noise = erased[erased.any(-1)].astype(float)
    # The erased pixels are BGR noise around the data's mean.
    assert noise.mean(0) == pytest.approx(cfg.bgr_mean, abs=8)
