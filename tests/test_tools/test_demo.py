from __future__ import annotations

import json
import shutil
import zipfile
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from .conftest import TOOLS, load_tool

pytest.importorskip('mmseg.models')

SMALL = [
    '--iters=4',
    '--train=6',
    '--val=4',
    '--crop=64',
    '--batch-size=2',
    '--speed-images=1',
    '--cfg-options',
    'model.backbone.arch._delete_=True',
    'model.backbone.arch.embed_dims=16',
    'model.backbone.arch.num_layers=4',
    'model.backbone.out_indices=(0,1,2,3)',
    'model.backbone.exit_head.confidence=entropy',
    'model.neck.embed_dim=16',
    'model.decode_head.in_channels=[16,16,16,16]',
    'model.decode_head.channels=16',
    'model.auxiliary_head.in_channels=16',
    'model.auxiliary_head.channels=16',
]


@pytest.mark.slow
def test_demo_trains_sweeps_and_draws_then_goes_on(run_tool, tmp_path):
    args = (TOOLS / 'demo.py', '--work-dir', tmp_path / 'demo', *SMALL)
    first = run_tool(*args, cwd=tmp_path)
    assert first.returncode == 0, first.stderr[-3000:]
    # The first table is that of the model of the package.
    header = [
        line for line in first.stdout.splitlines() if 'exit ratio' in line
    ][-1]
    for column in ('threshold', 'mIoU', 'mean GMACs', 'images/s'):
        assert column in header
    assert 'mIoU without looking at the picture' in first.stdout
    pictures = {p.name for p in (tmp_path / 'demo/pictures').iterdir()}
    assert {'scope_overview.png', 'exits.png', 'curve.png'} <= pictures
    assert {'first_look.png', 'first_exits.png'} <= pictures
    rows = json.loads((tmp_path / 'demo/sweep.json').read_text())['rows']
    ratios = [row['exit_ratio'] for row in rows]
    assert ratios[0] == 1.0
    assert ratios[-1] == 0.0
    assert ratios == sorted(ratios, reverse=True)

    again = run_tool(*args, cwd=tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    assert 'finished before' in again.stdout
    table = [line for line in first.stdout.splitlines() if line[:1] == '|']
    same = [line for line in again.stdout.splitlines() if line[:1] == '|']
    # All but the speed, which is measured anew.
    assert [line.rsplit('|', 2)[0] for line in table] == [
        line.rsplit('|', 2)[0] for line in same
    ]


def test_demo_changes_only_schedule_size_and_data(tmp_path):
    tool = load_tool('demo.py')
    args = tool.parse_args([])
    allowed = (
        'model.backbone.init_cfg',
        'model.backbone.img_size',
        'model.data_preprocessor.size',
        'train_dataloader.',
        'test_dataloader.',
        'optim_wrapper.optimizer.lr',
        'param_scheduler.',
        'train_cfg.max_iters',
        'default_hooks.',
    )
    for key in tool.overrides(args, tmp_path):
        assert key.startswith(allowed), key


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """A finished training of four steps, and what another one resumes."""
    from mmscope.cli import demo_training

    resumed = []

    class Runner:
        def register_hook(self, *hook):
            pass

        def train(self):
            pass

    def from_cfg(cfg):
        resumed.append(cfg.get('load_from'))
        return Runner()

    fake = SimpleNamespace(from_cfg=from_cfg)
    monkeypatch.setattr(demo_training, '_QuietRunner', fake)
    for name in ('iter_3.pth', 'iter_4.pth'):
        with zipfile.ZipFile(tmp_path / name, 'w') as file:
            file.writestr('data.pkl', 1000 * 'weights')
    cfg = Config(
        {
            'work_dir': str(tmp_path),
            'train_cfg': {'max_iters': 4},
            'default_hooks': {'logger': {'interval': 1}},
        }
    )
    return cfg, tmp_path, resumed


def test_a_finished_training_is_not_repeated(trained):
    from mmscope.cli.demo_training import train

    cfg, folder, resumed = trained
    assert train(cfg, {}) == folder / 'iter_4.pth'
    assert not resumed


def test_a_removal_that_was_killed_leaves_no_other_training(
    trained, monkeypatch
):
    from mmscope.cli import demo_training

    cfg, folder, resumed = trained
    demo_training.train(cfg, {'of': 'one recipe'})
    remove = shutil.rmtree

    def killed(path, ignore_errors=False):
        if not ignore_errors:
            (path / demo_training.DONE).unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, 'rmtree', killed)
    with pytest.raises(KeyboardInterrupt):
        demo_training.train(cfg, {'of': 'another'})
    monkeypatch.setattr(shutil, 'rmtree', remove)
    demo_training.train(cfg, {'of': 'another'})
    assert resumed == [None]


def test_a_last_checkpoint_that_was_cut_short_is_written_again(trained):
    from mmscope.cli.demo_training import train

    cfg, folder, resumed = trained
    last = folder / 'iter_4.pth'
    last.write_bytes(last.read_bytes()[:100])
    train(cfg, {})
    assert resumed == [str(folder / 'iter_3.pth')]
