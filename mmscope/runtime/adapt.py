"""Fit a config to this machine and to what the command line asks for."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from mmengine.config import Config

from mmscope.errors import UserError

from .checkpoints import read_checkpoint
from .config import type_name, walk
from .exit_gate import can_exit
from .memory import keep_freed_memory

SYNC_NORMS = ('SyncBN', 'MMSyncBN', 'SyncBatchNorm')
# By name, and by class.
PRETRAINED = ('Pretrained', 'PretrainedInit')
PROCESS_COUNTS = {
    'pytorch': 'WORLD_SIZE',
    'slurm': 'SLURM_NTASKS',
    'mpi': 'OMPI_COMM_WORLD_SIZE',
}
PROCESS_NUMBERS = {
    'pytorch': 'RANK',
    'slurm': 'SLURM_PROCID',
    'mpi': 'OMPI_COMM_WORLD_RANK',
}


def is_first_process(launcher: str) -> bool:
    """Tell, before the processes meet, whether this is the main one."""
    name = PROCESS_NUMBERS.get(launcher)
    return name is None or os.environ.get(name, '0') == '0'


def number_of_processes(launcher: str) -> int:
    """Processes of this job, as its launcher tells them.

    Raises:
        UserError: If the launcher's environment variable is absent.
    """
    if launcher == 'none':
        return 1
    name = PROCESS_COUNTS[launcher]
    if name not in os.environ:
        raise UserError(
            f'--launcher {launcher} needs the environment variable {name}, '
            'which that launcher sets: start with tools/dist_train.sh or '
            'tools/slurm_train.sh, or leave --launcher out'
        )
    return int(os.environ[name])


def adapt_to_machine(cfg: Config) -> list[str]:
    """Replace what needs a GPU or several processes where there are none.

    Gives a sentence for the log per change.
    """
    notes = []
    processes = number_of_processes(cfg.launcher)
    gpu = torch.cuda.is_available()
    if processes == 1 or not gpu:
        changed = [
            node
            for _, node in walk(cfg.model, 'model')
            if type_name(node) in SYNC_NORMS
        ]
        for node in changed:
            node.type = 'BN'
        if changed:
            why = 'one process' if processes == 1 else 'no GPU'
            notes.append(f'SyncBN -> BN in {len(changed)} places ({why})')
    if not gpu:
        keep_freed_memory()
    if processes > 1 and not gpu:
        notes.append(join_without_gpu(cfg))
    return notes


def join_without_gpu(cfg: Config) -> str:
    """Join the processes of a job on CPU, which MMEngine does on GPUs only.

    Raises:
        UserError: If the launcher is not torch's.
    """
    if cfg.launcher != 'pytorch':
        raise UserError(
            f'--launcher {cfg.launcher} needs GPUs and none is visible; '
            'several processes on CPU start with tools/dist_train.sh or '
            'tools/dist_test.sh'
        )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
    }
    return 'distributed backend nccl -> gloo (no GPU)'


def batch_note(cfg: Config) -> str:
    """Tell the effective batch size, and how to get the recipe's."""
    per_process = cfg.train_dataloader.batch_size
    processes = number_of_processes(cfg.launcher)
    steps = cfg.optim_wrapper.get('accumulative_counts', 1)
    total = per_process * processes * steps
    note = (
        f'effective batch size {total} = {per_process} images x {processes} '
        f'process(es) x {steps} accumulated step(s)'
    )
    scaling = cfg.get('auto_scale_lr') or {}
    base = scaling.get('base_batch_size', total)
    if total == base:
        return note
    if scaling.get('enable'):
        return f'{note}; learning rate scaled from that for {base}'
    advice = (
        ''
        if base % (processes * steps)
        else (f'train_dataloader.batch_size={base // (processes * steps)} or ')
    )
    return (
        f'{note}; the recipe is made for {base}: --cfg-options {advice}'
        'auto_scale_lr.enable=True'
    )


def use_amp(cfg: Config) -> None:
    """Train in bfloat16 mixed precision.

    Raises:
        UserError: If there is no GPU that can, or the optimizer wrapper is
            of another kind.
    """
    if not torch.cuda.is_available():
        raise UserError(
            '--amp needs a CUDA GPU and none is visible: leave it out, '
            'float32 is the right precision on CPU'
        )
    wrapper = cfg.optim_wrapper
    kind = type_name(wrapper) or 'OptimWrapper'
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(
            '--amp expects optim_wrapper.type OptimWrapper or '
            f'AmpOptimWrapper, got {kind}: remove --amp'
        )
    wrapper.type = 'AmpOptimWrapper'
    wrapper.setdefault('dtype', 'bfloat16')
    # bfloat16 has float32's range, so losses need no scaling.
    if wrapper.dtype == 'bfloat16':
        wrapper.setdefault('loss_scale', {'enabled': False})


def check_pretrained(cfg: Config) -> None:
    """Check that every ``init_cfg`` of type Pretrained can be read.

    Raises:
        UserError: Naming the file, the converter and the way to train from
            scratch.
    """
    for key, node in walk(cfg.model, 'model'):
        source = node.get('checkpoint')
        if type_name(node) not in PRETRAINED or '://' in str(source):
            continue
        if not Path(source).expanduser().is_file():
            target = 'mambascope' if can_exit(cfg) else 'vim'
            raise UserError(
                f'pretrained weights {Path(source).absolute()} do not '
                f'exist ({key}). Download ViM weights and convert them: '
                'mmscope convert SRC '
                f'{source} --target {target}. Another file: --cfg-options '
                f'{key}.checkpoint=FILE. From scratch: --cfg-options '
                f'{key}=None'
            )
        read_checkpoint(source)


def drop_pretrained(cfg: Config) -> list[str]:
    """Start from the weights of a resumed run, not from the pretrained.

    Gives a sentence for the log per change.
    """
    notes = []
    for key, node in walk(cfg.model, 'model'):
        init_cfg = node.get('init_cfg')
        if isinstance(init_cfg, dict) and type_name(init_cfg) in PRETRAINED:
            node['init_cfg'] = None
            notes.append(f'{key}.init_cfg not read: the run goes on')
    return notes
