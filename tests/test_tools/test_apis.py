from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmscope.datasets import DatasetLayoutError
from mmscope.errors import UserError, user_errors
from mmscope.models.scoping import check_threshold
from mmscope.runtime import (
    adapt_to_machine,
    batch_note,
    check_host,
    check_pretrained,
    drop_pretrained,
    latest_checkpoint,
    number_of_processes,
    use_amp,
)
from mmscope.runtime.memory import keep_freed_memory


def config(**changes):
    base = {
        'default_scope': 'mmseg',
        'launcher': 'none',
        'model': {
            'type': 'EncoderDecoder',
            'backbone': {'type': 'mmscope.VisionMamba', 'init_cfg': None},
            'decode_head': [{'norm_cfg': {'type': 'SyncBN'}}],
        },
        'env_cfg': {'dist_cfg': {'backend': 'nccl'}},
        'optim_wrapper': {'type': 'OptimWrapper'},
        'train_dataloader': {'batch_size': 4},
        'auto_scale_lr': {'enable': False, 'base_batch_size': 16},
    }
    return Config({**base, **changes})


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)


def test_sync_norms_stay_where_gpus_work_together(gpu, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '4')
    cfg = config(launcher='pytorch')
    assert adapt_to_machine(cfg) == []
    assert cfg.model.decode_head[0].norm_cfg.type == 'SyncBN'
    assert cfg.env_cfg.dist_cfg.backend == 'nccl'


def test_sync_norms_inside_lists_become_bn_in_one_process(gpu):
    cfg = config()
    assert adapt_to_machine(cfg) == ['SyncBN -> BN in 1 places (one process)']
    assert cfg.model.decode_head[0].norm_cfg.type == 'BN'


def test_amp_means_bfloat16_without_loss_scaling(gpu):
    cfg = config()
    use_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.dtype == 'bfloat16'
    assert cfg.optim_wrapper.loss_scale == {'enabled': False}


def test_amp_keeps_a_precision_that_the_config_chose(gpu):
    wrapper = {'type': 'AmpOptimWrapper', 'dtype': 'float16'}
    cfg = config(optim_wrapper=wrapper)
    use_amp(cfg)
    assert cfg.optim_wrapper.to_dict() == wrapper


def test_amp_refuses_other_wrappers(gpu):
    with pytest.raises(UserError, match='got DeepSpeedOptimWrapper'):
        use_amp(config(optim_wrapper={'type': 'DeepSpeedOptimWrapper'}))


@pytest.mark.parametrize(
    ('processes', 'batch', 'scale', 'expected'),
    [
        (4, 4, False, 'effective batch size 16 = 4 images x 4 process(es)'),
        (2, 4, False, 'train_dataloader.batch_size=8 or auto_scale_lr'),
        (3, 4, False, 'made for 16: --cfg-options auto_scale_lr.enable=True'),
        (2, 4, True, 'learning rate scaled from that for 16'),
    ],
)
def test_the_effective_batch_is_said_with_what_to_do(
    monkeypatch, processes, batch, scale, expected
):
    monkeypatch.setenv('WORLD_SIZE', str(processes))
    cfg = config(
        launcher='pytorch',
        train_dataloader={'batch_size': batch},
        auto_scale_lr={'enable': scale, 'base_batch_size': 16},
    )
    assert expected in batch_note(cfg)
    assert ('recipe' in batch_note(cfg)) == (
        processes * batch != 16 and not scale
    )


@pytest.mark.skipif(
    platform.libc_ver()[0] != 'glibc', reason='glibc has these settings'
)
def test_freed_memory_is_kept():
    assert keep_freed_memory()


def test_every_launcher_tells_its_processes(monkeypatch):
    for launcher, name in (
        ('pytorch', 'WORLD_SIZE'),
        ('slurm', 'SLURM_NTASKS'),
        ('mpi', 'OMPI_COMM_WORLD_SIZE'),
    ):
        monkeypatch.delenv(name, raising=False)
        with pytest.raises(UserError, match=f'variable {name}'):
            number_of_processes(launcher)
        monkeypatch.setenv(name, '3')
        assert number_of_processes(launcher) == 3
    assert number_of_processes('none') == 1


def test_pretrained_weights_are_looked_for_at_any_depth(tmp_path):
    pytest.importorskip('mmseg.models')
    weights = tmp_path / 'vim.pth'
    init = {'type': 'Pretrained', 'checkpoint': str(weights)}
    cfg = config()
    cfg.model.decode_head[0]['init_cfg'] = init
    with pytest.raises(UserError) as error:
        check_pretrained(cfg)
    assert 'model.decode_head.0.init_cfg=None' in str(error.value)
    assert '--target vim' in str(error.value)
    weights.write_bytes(b'half a file')
    with pytest.raises(UserError, match='damaged or incomplete'):
        check_pretrained(cfg)
    torch.save({'model': {}}, weights)
    with pytest.raises(UserError, match='mmscope convert'):
        check_pretrained(cfg)
    torch.save({'state_dict': {}}, weights)
    check_pretrained(cfg)


def test_a_resumed_run_needs_no_pretrained_file():
    cfg = config()
    init = {'type': 'Pretrained', 'checkpoint': 'nowhere.pth'}
    cfg.model.backbone.init_cfg = init
    assert drop_pretrained(cfg) == [
        'model.backbone.init_cfg not read: the run goes on'
    ]
    check_pretrained(cfg)


def test_a_missing_host_says_what_to_install(monkeypatch):
    import mmscope.runtime.config as module

    monkeypatch.setattr(
        module, 'find_spec', lambda name: None if name == 'mmseg' else 1
    )
    with pytest.raises(UserError, match='needs mmsegmentation; mmseg not'):
        check_host(config())


def test_user_errors_end_in_a_sentence_and_bugs_in_a_traceback():
    with pytest.raises(SystemExit, match='error: folder'), user_errors():
        raise DatasetLayoutError('folder')
    with pytest.raises(RuntimeError), user_errors(KeyError):
        raise RuntimeError('a bug')
    with pytest.raises(SystemExit, match='exit_threshold must be'):
        with user_errors():
            check_threshold(-1)
    with pytest.raises(ValueError, match='could not convert'), user_errors():
        float('a bug')
    with pytest.raises(SystemExit, match='MMSCOPE_DEBUG=1 shows'):
        with user_errors(ValueError):
            raise ValueError('wrong')
    with pytest.raises(SystemExit, match='No such file .*nowhere'):
        with user_errors(OSError):
            Path('/nowhere').read_text()


def test_debug_lets_the_exception_pass(monkeypatch):
    monkeypatch.setenv('MMSCOPE_DEBUG', '1')
    with pytest.raises(UserError), user_errors():
        raise UserError('wrong')


def test_a_run_killed_while_it_noted_its_checkpoint_goes_on(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for age, name in enumerate(('iter_8.pth', 'iter_4.pth', 'best_6.pth')):
        torch.save({}, tmp_path / name)
        os.utime(tmp_path / name, (100 - age, 100 - age))
    # Killed while it saved: the newest file is not complete.
    whole = (tmp_path / 'iter_8.pth').read_bytes()
    (tmp_path / 'iter_12.pth').write_bytes(whole[:-40])
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'iter_8.pth')
    note = tmp_path / 'last_checkpoint'
    note.write_text('')
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'iter_8.pth')
    note.write_text('elsewhere/iter_2.pth\n')
    # The folder was moved: the note is of another place.
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'iter_8.pth')
