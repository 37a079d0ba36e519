from __future__ import annotations

import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest
import torch
from PIL import Image

from mmscope.models import MambaScope
from mmscope.runtime import read_checkpoint
from mmscope.runtime.folder_lock import FolderLock

from .conftest import TOOLS, load_tool
from .tiny import CONFIG, VIM_CONFIG, loss_curve, records, train_args

pytest.importorskip('mmseg.models')

TRAIN = TOOLS / 'train.py'


@pytest.fixture(scope='module')
def tool():
    return load_tool('train.py')


@pytest.fixture
def ade(monkeypatch, scenes):
    monkeypatch.setenv('MMSCOPE_ADE20K', str(scenes))


@pytest.fixture(scope='module')
def straight(tmp_path_factory, run_tool):
    """Six iterations without interruption, selection from the fourth on."""
    work_dir = tmp_path_factory.mktemp('straight')
    done = run_tool(
        TRAIN,
        *train_args(work_dir),
        cwd=tmp_path_factory.mktemp('elsewhere'),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return work_dir, done.stdout + done.stderr


def test_real_config_trains_from_any_directory(straight):
    work_dir, output = straight
    curve = loss_curve(work_dir)
    assert sorted(curve) == [1, 2, 3, 4, 5, 6]
    assert (work_dir / 'iter_6.pth').is_file()
    assert 'Traceback' not in output


def test_what_was_adapted_is_logged(straight):
    _, output = straight
    assert 'SyncBN -> BN in 3 places (one process)' in output
    assert 'effective batch size 2 = 2 images x 1 process(es)' in output
    assert 'train_dataloader.batch_size=16 or auto_scale_lr' in output
    assert 'informative-region selection on at iteration 4 of 6' in output


def test_validation_reports_iou_and_exits(straight):
    work_dir, _ = straight
    last = [r for r in records(work_dir) if 'mIoU' in r][-1]
    for key in ('exit_ratio', 'mean_tokens', 'mean_cost'):
        assert f'early_exit/{key}' in last


def test_checkpoints_are_read_without_unpickling(straight, monkeypatch):
    work_dir, output = straight
    assert 'Falling back to weights_only=False' not in output
    full = torch.load

    def safe_only(*args, **kwargs):
        assert kwargs.get('weights_only') is not False
        return full(*args, **kwargs)

    monkeypatch.setattr(torch, 'load', safe_only)
    state = read_checkpoint(work_dir / 'iter_6.pth')
    assert int(state['state_dict']['backbone.exit_head.num_updates']) == 6
    assert state['meta']['iter'] == 6


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_curve(
    straight, tmp_path, scenes
):
    environ = {
        **os.environ,
        'MMSCOPE_ADE20K': str(scenes),
        'OMP_NUM_THREADS': '1',
    }
    args = [
        sys.executable,
        str(TRAIN),
        *train_args(tmp_path, '--resume'),
    ]
    first = subprocess.Popen(
        args, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 200
    while not (tmp_path / 'last_checkpoint').exists():
        assert time.monotonic() < deadline, 'no checkpoint was written'
        assert first.poll() is None, 'training ended before it was killed'
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / 'iter_6.pth').exists(), 'killed too late'
    second = subprocess.run(args, env=environ, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr[-2000:]
    assert 'going on from' in second.stdout + second.stderr
    expected, resumed = loss_curve(straight[0]), loss_curve(tmp_path)
    assert sorted(resumed) == sorted(expected)
    for step, loss in expected.items():
        assert resumed[step] == pytest.approx(loss, rel=1e-4), step


def test_missing_pretrained_weights_name_file_converter_and_option(
    tool, ade, tmp_path
):
    with pytest.raises(SystemExit) as error:
        tool.main([str(CONFIG), '--work-dir', str(tmp_path)])
    message = str(error.value)
    assert 'checkpoints/mambascope_ti_in1k.pth' in message
    assert 'mmscope convert SRC' in message
    assert '--target mambascope' in message
    assert 'model.backbone.init_cfg=None' in message


@pytest.mark.parametrize('wrapper', ['', 'module.'])
def test_pretrained_weights_of_another_arch_end_in_one_sentence(
    tool, ade, tmp_path, wrapper
):
    weights = tmp_path / 'small.pth'
    model = MambaScope(arch={'embed_dims': 24, 'num_layers': 4}, img_size=64)
    prefix = f'{wrapper}backbone.'
    state = {f'{prefix}{k}': v for k, v in model.state_dict().items()}
    torch.save({'state_dict': state}, weights)
    args = train_args(tmp_path / 'work')
    args.remove('model.backbone.init_cfg=None')
    args.append(f'model.backbone.init_cfg.checkpoint={weights}')
    with pytest.raises(SystemExit, match='error: .*another arch.*16'):
        tool.main(args)


def test_wrong_channel_count_ends_in_one_sentence(tool, ade, tmp_path):
    args = train_args(tmp_path, options=['model.backbone.in_channels=4'])
    with pytest.raises(SystemExit, match=r'error: .*\(B, 4, H, W\), got'):
        tool.main(args)


def test_masks_without_any_label_train_to_a_finite_loss(
    tool, scenes, tmp_path, monkeypatch
):
    data = tmp_path / 'ADEChallengeData2016'
    shutil.copytree(scenes, data)
    for mask in (data / 'annotations/training').iterdir():
        Image.new('L', (96, 72)).save(mask)
    monkeypatch.setenv('MMSCOPE_ADE20K', str(data))
    options = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    # Nothing taught the exit head, so the validation does not gate by it.
    with pytest.raises(SystemExit, match='was never trained'):
        tool.main(train_args(tmp_path / 'work', options=options))
    losses = loss_curve(tmp_path / 'work')
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses.values())


def test_missing_data_ends_in_one_sentence(tool, tmp_path, monkeypatch):
    monkeypatch.setenv('MMSCOPE_ADE20K', str(tmp_path / 'none'))
    with pytest.raises(SystemExit, match='error: ADE20K: .* does not exist'):
        tool.main(train_args(tmp_path))


def test_a_second_training_in_a_work_dir_is_refused(tool, ade, tmp_path):
    with closing(FolderLock(tmp_path)):
        with pytest.raises(SystemExit, match='another training writes to'):
            tool.main(train_args(tmp_path, options=['train_cfg.max_iters=2']))
    # Its config and logs are those of the first.
    assert os.listdir(tmp_path) == ['.lock']


def test_a_full_disk_ends_in_one_sentence(tool, ade, tmp_path):
    """A limit of the length of files is a full disk for this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, before[1]))
    try:
        with pytest.raises(SystemExit) as error:
            tool.main(train_args(tmp_path, options=['train_cfg.max_iters=2']))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = str(error.value)
    assert message.startswith(f'error: a file in {tmp_path} cannot be written')
    assert '--resume goes on from the last complete checkpoint' in message


def test_a_work_dir_that_cannot_be_made_is_named(tool, ade, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit, match='file/work.* cannot be written: Not'):
        tool.main(train_args(tmp_path / 'file' / 'work'))


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['no_such.py'], 'config no_such.py does not exist'),
        ([str(CONFIG.parents[1] / '_base_/default_runtime.py')], 'no model'),
        (train_args('w', '--amp'), '--amp needs a CUDA GPU'),
        (
            train_args('w', '--exit-threshold', '0.5', config=VIM_CONFIG),
            'needs a backbone that can exit',
        ),
        (train_args('w', '--launcher', 'pytorch'), 'variable WORLD_SIZE'),
        (train_args('w', '--resume', 'no.pth'), 'no.pth does not exist'),
        (train_args('w', options=['default_scope=mmwhat']), "'mmwhat'"),
        (
            train_args('w', options=['model.backbone.arch=huge']),
            "arch.*'huge'|huge.*arch",
        ),
        (
            train_args('w', options=['model.type=mmscope.NoSuchModel']),
            'NoSuchModel',
        ),
        # No config of ADE20K has the hook that finds these.
        (
            train_args('w', options=['model.decode_head.num_classes=7']),
            'the data has 150 classes.*decode_head.num_classes is 7',
        ),
        (
            train_args(
                'w', options=['model.backbone.exit_head.num_classes=7']
            ),
            '150 classes .*exit_head.num_classes is 7.*=150',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_wrong_input_ends_in_one_sentence(
    tool, ade, tmp_path, monkeypatch, argv, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit) as error:
        tool.main(argv)
    assert str(error.value).startswith('error: ')
    assert re.search(message, str(error.value))


def test_an_override_without_a_value_is_named(tool, capsys):
    with pytest.raises(SystemExit, match='2'):
        tool.main(['a.py', '--cfg-options', 'a=1', 'model.backbone'])
    said = capsys.readouterr().err
    assert "--cfg-options wants KEY=VALUE, got 'model.backbone'" in said


@pytest.mark.parametrize('text', ['-0.1', 'nan', 'high'])
def test_bad_thresholds_are_refused(tool, text, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args([str(CONFIG), f'--exit-threshold={text}'])
    assert (
        f'number >= 0 (0: every image exits, > 1: none does), got {text!r}'[
            :30
        ]
        in capsys.readouterr().err
    )


def test_a_similar_config_is_suggested(tool):
    with pytest.raises(SystemExit, match='Did you mean .*mambascope_ti_uper'):
        tool.main([str(CONFIG.with_name('mambascope_ti_uperne.py'))])


def test_weights_alone_cannot_be_resumed(tool, ade, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'state_dict': {}}, path)
    with pytest.raises(SystemExit, match='weights only.*load_from='):
        tool.main(train_args(tmp_path, '--resume', str(path)))


def test_threshold_reaches_the_hook_or_makes_one(tool):
    def gates(options=()):
        args = tool.parse_args(
            train_args('w', '--exit-threshold', '0.25', options=options)
        )
        cfg, _ = tool.prepare(args)
        return [
            hook
            for hook in cfg.custom_hooks
            if hook['type'] == 'mmscope.ConfidenceGateHook'
        ]

    assert [gate['exit_threshold'] for gate in gates()] == [0.25]
    assert [
        gate['exit_threshold'] for gate in gates(['custom_hooks=None'])
    ] == [0.25]


def test_resume_without_a_checkpoint_starts_anew_and_says_so(tool, tmp_path):
    args = tool.parse_args(train_args(tmp_path, '--resume'))
    cfg, notes = tool.prepare(args)
    assert not cfg.resume
    assert any('starting from step 0' in note for note in notes)


def test_resume_never_goes_on_from_where_the_config_starts(tool, tmp_path):
    other = tmp_path / 'other.pth'
    state = {'state_dict': {'a': torch.zeros(1)}, 'optimizer': {}}
    torch.save({**state, 'meta': {'iter': 9}}, other)
    options = [f'load_from={other}']
    args = train_args(tmp_path / 'w', '--resume', options=options)
    cfg, notes = tool.prepare(tool.parse_args(args))
    assert (cfg.resume, cfg.load_from) == (False, str(other))
    mine = tmp_path / 'w/iter_2.pth'
    mine.parent.mkdir()
    torch.save({**state, 'meta': {'iter': 2}}, mine)
    cfg, notes = tool.prepare(tool.parse_args(args))
    assert (cfg.resume, cfg.load_from) == (True, str(mine))


@pytest.mark.parametrize('load_from', [False, True])
def test_resume_in_a_config_is_the_option(tool, tmp_path, load_from):
    state = {'state_dict': {'a': torch.zeros(1)}, 'optimizer': {}}
    for step in (2, 4):
        path = tmp_path / f'iter_{step}.pth'
        torch.save({**state, 'meta': {'iter': step}}, path)
        os.utime(path, (step, step))
    # As a kill while MMEngine saves leaves it.
    path.write_bytes(path.read_bytes()[:-10])
    (tmp_path / 'last_checkpoint').write_text(str(path))
    good, options = tmp_path / 'iter_2.pth', ['resume=True']
    if load_from:
        options.append(f'load_from={good}')
    args = train_args(tmp_path, options=options)
    cfg, notes = tool.prepare(tool.parse_args(args))
    assert (cfg.resume, cfg.load_from) == (True, str(good))
    assert f'going on from {good}, step 2' in notes


def test_configs_of_one_name_have_folders_of_their_own(tool):
    def folder(name):
        scratch = ['--cfg-options', 'model.backbone.init_cfg=None']
        args = tool.parse_args([name, *scratch])
        return tool.prepare(args)[0].work_dir

    assert folder('ade20k/vim_s_upernet') == 'work_dirs/vim_s_upernet'
    assert folder('camvid/vim_s_upernet') == 'work_dirs/camvid/vim_s_upernet'
    file = str(CONFIG.parents[1] / 'camvid/vim_s_upernet.py')
    assert folder(file) == 'work_dirs/camvid/vim_s_upernet'
