from __future__ import annotations

import re

import pytest
import torch
from mmengine.config import Config

from mmscope.errors import UserError

from .conftest import TOOLS, load_tool
from .tiny import CONFIG, VIM_CONFIG, scores, scoring_args, train_args

pytest.importorskip('mmseg.models')

METRICS = (
    'mIoU',
    'early_exit/exit_ratio',
    'early_exit/mean_tokens',
    'early_exit/mean_cost',
)


@pytest.fixture(scope='module')
def tool():
    return load_tool('test.py')


@pytest.fixture(scope='module')
def ade(scenes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMSCOPE_ADE20K', str(scenes))
        yield scenes


@pytest.fixture(scope='module')
def checkpoint(ade, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('trained')
    load_tool('train.py').main(train_args(work_dir))
    return work_dir / 'iter_6.pth'


@pytest.fixture(scope='module')
def median(checkpoint):
    """A threshold between the five confidences of the test images."""
    from mmengine.config import DictAction

    from mmscope.evaluation import SegmentationScore, score_endpoints
    from mmscope.evaluation.loading import build_dataloader, build_model
    from mmscope.runtime import adapt_to_machine

    from .tiny import EXIT_OPTIONS, OPTIONS

    cfg = Config.fromfile(CONFIG)
    pairs = (option.split('=', 1) for option in [*OPTIONS, *EXIT_OPTIONS])
    cfg.merge_from_dict(
        {key: DictAction._parse_iterable(value) for key, value in pairs}
    )
    cfg.launcher = 'none'
    adapt_to_machine(cfg)
    model = build_model(cfg, str(checkpoint))
    loader = build_dataloader(cfg, 'test')
    images = score_endpoints(model, loader, SegmentationScore(150))
    ordered = sorted(images.confidence)
    assert ordered[1] < ordered[2] - 1e-6
    return float(ordered[1] + ordered[2]) / 2


def run(tool, work_dir, *args, **kwargs):
    tool.main(scoring_args(work_dir, *args, **kwargs))
    return scores(work_dir)


def test_the_threshold_moves_exits_tokens_and_cost(
    tool, checkpoint, median, tmp_path
):
    found = {
        eta: run(
            tool, tmp_path / str(eta), checkpoint, f'--exit-threshold={eta}'
        )
        for eta in (0, median, 2)
    }
    ratios = [found[eta]['early_exit/exit_ratio'] for eta in found]
    costs = [found[eta]['early_exit/mean_cost'] for eta in found]
    assert ratios == pytest.approx([1.0, 0.6, 0.0])
    assert costs[0] < costs[1] < costs[2]


@pytest.mark.slow
def test_two_processes_count_like_one(
    tool, run_tool, checkpoint, median, tmp_path
):
    gate = f'--exit-threshold={median}'
    alone = run(tool, tmp_path / 'one', checkpoint, gate)
    both = run_tool(
        TOOLS / 'test.py',
        *scoring_args(
            tmp_path / 'two', checkpoint, gate, '--launcher', 'pytorch'
        ),
        launcher=[
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc_per_node=2',
        ],
    )
    assert both.returncode == 0, both.stderr[-3000:]
    # Five images on two ranks: the sampler doubles one of them.
    together = scores(tmp_path / 'two')
    for name in METRICS:
        assert together[name] == alone[name], name


@pytest.mark.slow
def test_two_processes_train_and_validate(run_tool, tmp_path):
    done = run_tool(
        TOOLS / 'train.py',
        *train_args(tmp_path, '--launcher', 'pytorch'),
        launcher=[
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc_per_node=2',
        ],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    output = done.stdout + done.stderr
    assert 'effective batch size 4 = 2 images x 2 process(es)' in output
    assert 'nccl -> gloo' in output
    assert 'early_exit/exit_ratio' in output
    state = torch.load(
        tmp_path / 'iter_6.pth', map_location='cpu', weights_only=False
    )
    assert int(state['state_dict']['backbone.exit_head.num_updates']) == 6


def test_tta_counts_every_view(tool, checkpoint, tmp_path):
    plain = run(tool, tmp_path / 'plain', checkpoint, '--exit-threshold=2')
    views = 'tta_pipeline.1.transforms.0'
    options = [
        f'{views}.{i}.scale=({size * 4},{size})'
        for i, size in enumerate((32, 48, 64, 64, 64, 64))
    ]
    augmented = run(
        tool,
        tmp_path / 'tta',
        checkpoint,
        '--tta',
        '--exit-threshold=2',
        options=options,
    )
    more = (
        augmented['early_exit/mean_tokens'] / plain['early_exit/mean_tokens']
    )
    # Twelve views: eight of the plain size, four smaller.
    assert 8 < more < 12
    assert 'mIoU' in augmented


def test_masks_and_pictures_are_written(tool, checkpoint, tmp_path):
    run(
        tool,
        tmp_path / 'work',
        checkpoint,
        '--out',
        str(tmp_path / 'masks'),
        '--show-dir',
        str(tmp_path / 'pictures'),
    )
    assert len(list((tmp_path / 'masks').glob('ADE_val_*.png'))) == 5
    assert len(list((tmp_path / 'pictures').rglob('*.png'))) == 5


def test_pictures_of_several_processes_are_refused(
    tool, checkpoint, tmp_path, monkeypatch
):
    # The hosts' visualizers paint in the first process alone.
    monkeypatch.setenv('WORLD_SIZE', '2')
    options = ['--show-dir', 'shown', '--launcher', 'pytorch']
    args = tool.parse_args(scoring_args(tmp_path, checkpoint, *options))
    with pytest.raises(UserError, match='in one process, got 2: leave --lau'):
        tool.prepare(args)


@pytest.mark.parametrize(
    'evaluators', [{'type': 'EarlyExitMetric'}, [{'type': 'DumpResults'}], []]
)
def test_masks_that_nobody_would_write_are_refused(tool, evaluators):
    cfg = Config({'default_scope': 'mmseg', 'test_evaluator': evaluators})
    with pytest.raises(UserError, match='masks: .* by an IoUMetric, and test'):
        tool.use_output(cfg, 'masks')


def damaged(checkpoint, folder):
    path = folder / 'damaged.pth'
    path.write_bytes(checkpoint.read_bytes()[:5000])
    return path


def other_content(checkpoint, folder):
    path = folder / 'list.pth'
    torch.save([1, 2], path)
    return path


def missing(checkpoint, folder):
    return folder / 'no.pth'


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (damaged, r'cannot be read .*5,000 bytes, damaged or incomplete'),
        (other_content, "holds list, expected a dict with 'state_dict'"),
        (missing, 'no.pth does not exist'),
    ],
)
def test_bad_checkpoint_files_end_in_one_sentence(
    tool, checkpoint, tmp_path, make, message
):
    path = make(checkpoint, tmp_path)
    with pytest.raises(SystemExit) as error:
        tool.main(scoring_args(tmp_path, path))
    assert re.search('error: .*' + message, str(error.value), re.DOTALL)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['model.backbone.arch.embed_dims=24'], 'another (arch|model)'),
        (['model.decode_head.num_classes=11'], 'another model or size'),
        (['model.backbone.feature_reuse=linear'], 'another model'),
    ],
)
def test_checkpoints_of_other_models_are_refused(
    tool, checkpoint, tmp_path, options, message
):
    with pytest.raises(SystemExit) as error:
        tool.main(scoring_args(tmp_path, checkpoint, options=options))
    assert re.search(message, str(error.value))


def test_a_vim_checkpoint_is_refused_by_mambascope(
    tool, ade, tmp_path_factory, tmp_path
):
    work_dir = tmp_path_factory.mktemp('vim')
    load_tool('train.py').main(
        train_args(
            work_dir,
            config=VIM_CONFIG,
            options=['train_cfg.max_iters=2', 'train_cfg.val_interval=2'],
        )
    )
    with pytest.raises(SystemExit, match='weights of EarlyExitEncoderDec'):
        tool.main(scoring_args(tmp_path, work_dir / 'iter_2.pth'))
