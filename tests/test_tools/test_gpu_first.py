"""The commands for the first minutes on a GPU, in their dry runs."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image

from mmscope.benchmark.gpu.parts import PARTS
from mmscope.benchmark.gpu.supervisor import TOTAL_S
from mmscope.cli import benchmark, gpu_first
from mmscope.ops import triton_backend

from .conftest import TOOLS, load_tool

SHRUNK = [
    'model.backbone.arch.embed_dims=16',
    'model.backbone.arch.num_layers=2',
    'model.head.in_channels=16',
    'model.head.num_classes=2',
    'model.data_preprocessor.num_classes=2',
]


TRAINED = ['--json', 'a', '--data', 'b']


@pytest.fixture(scope='module')
def tool():
    return load_tool('benchmark.py')


@pytest.mark.slow
def test_the_dry_run_executes_every_step(tool, tmp_path, capsys):
    if reason := triton_backend.probe():
        pytest.skip(reason)
    path = tmp_path / 'dry.json'
    tool.main(['--gpu-first', '--dry-run', '--json', str(path)])
    found = json.loads(path.read_text())
    states = {(x['part'], x['step']): x for x in found['outcomes']}
    assert {part for part, _ in states} == set(PARTS)
    wrong = {
        key: x['reason']
        for key, x in states.items()
        if x['state'] != 'done' and key != ('machine', 'driver')
    }
    # mmpretrain, which has DeiT, may be missing: its rows say so.
    assert wrong == {}
    rows = [row for x in found['outcomes'] for row in x['rows']]
    assert all(row['ok'] for row in rows if 'ok' in row)
    reasons = {
        row['subject']: row['reason']
        for row in rows
        if 'subject' in row and row['reason']
    }
    assert set(reasons) <= {'DeiT'}
    text = capsys.readouterr().out
    assert 'ViM-S, batch 64: forward over mamba-ssm' in text
    assert found['setting']['dry_run'] is True


def test_the_parts_fit_into_eight_minutes():
    # The rest is for imports: of a first worker and of one after an error.
    assert sum(part.budget_s for part in PARTS.values()) <= TOTAL_S - 20


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (('train', 8), ('test', 2)):
        for name in ('cat', 'dog'):
            folder = tmp_path / 'photos' / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(noise).save(folder / f'{i}.png')
    return tmp_path / 'photos'


def test_a_training_in_minutes_is_tried_on_the_cpu(
    tool, photos, tmp_path, capsys
):
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    path = tmp_path / 'runs.json'
    configs = [
        str(TOOLS.parent / 'configs' / 'cifar10' / f'{name}_mini.py')
        for name in ('vim', 'mambascope')
    ]
    tool.main(
        [
            *('--train-minutes', '0.05', '--dry-run', '--data', str(photos)),
            *('--json', str(path), '--train-config', *configs),
            *('--cfg-options', *SHRUNK),
        ]
    )
    found = json.loads(path.read_text())
    assert set(found['runs']) == {'vim_mini', 'mambascope_mini'}
    for name, run in found['runs'].items():
        assert run['curve']
        assert run['sweeps']['test']
        assert path.with_name(f'runs-{name}.pth').is_file()
    assert 'test, best threshold' in capsys.readouterr().out


def test_another_number_of_classes_is_explained(tool, photos, tmp_path):
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    config = TOOLS.parent / 'configs' / 'cifar10' / 'vim_mini.py'
    with pytest.raises(SystemExit, match='head of 10 classes.*has 2: cat, do'):
        tool.main(
            [
                *('--train-minutes', '1', '--dry-run', '--data', str(photos)),
                *('--json', str(tmp_path / 'r.json')),
                *('--train-config', str(config)),
            ]
        )


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (['--gpu-first'], 'a file to write to: --json FILE'),
        (['--gpu-first', '--json'], 'a file to write to: --json FILE'),
        (
            ['--dry-run'],
            '--dry-run is ignored by the grid, it is for --gpu-first',
        ),
        (['--commit', 'abc'], '--commit is ignored by the grid'),
        (['--train-minutes', '7', '--json', 'a'], 'needs images: --data'),
        (
            ['--train-minutes', '0', '--json', 'a', '--data', 'b'],
            'must be above 0, got 0',
        ),
        (
            ['--gpu-first', '--json', 'a', '--data', 'b'],
            '--data is ignored by --gpu-first, it is for --train-minutes',
        ),
        (
            ['--train-minutes', '1', '--parts', 'ops', *TRAINED],
            '--parts is ignored by --train-minutes, it is for --gpu-first',
        ),
        (
            ['--gpu-first', '--json', 'a', '--train-batch', '8'],
            '--train-batch is ignored by --gpu-first',
        ),
        (['--train-config', 'a.py'], '--train-config is ignored by the grid'),
        (['--gpu-first', '--ops', '--json', 'a'], 'not allowed with'),
        (['--gpu-first', '--parts', 'x', '--json', 'a'], 'invalid choice'),
    ],
)
def test_a_wrong_command_line_is_explained(tool, capsys, wrong, message):
    with pytest.raises(SystemExit):
        tool.parse_args(wrong, '')
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    'args', [['--gpu-first'], ['--train-minutes', '1', '--data', 'x']]
)
def test_without_a_gpu_the_dry_run_is_named(tool, tmp_path, args):
    if torch.cuda.is_available():
        pytest.skip('this machine has a GPU')
    with pytest.raises(SystemExit, match='sees no GPU.*--dry-run'):
        tool.main([*args, '--json', str(tmp_path / 'a.json')])


def test_a_file_of_something_else_is_refused(tool, tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{"rows": []}')
    with pytest.raises(SystemExit, match='is not the JSON of'):
        tool.main(['--gpu-first', '--dry-run', '--json', str(path)])
    assert path.read_text() == '{"rows": []}'


@pytest.mark.parametrize(
    'option',
    [
        ['--plot', 'a.png'],
        ['--threads', '1'],
        ['--device', 'cpu'],
        ['--dtype', 'bfloat16'],
        ['--backend', 'cpu'],
        ['--repeats', '1'],
        ['--budget-s', '1'],
        ['--budget-gib', '1'],
    ],
)
@pytest.mark.parametrize(
    'mode',
    [['--gpu-first', '--json', 'a'], ['--train-minutes', '1', *TRAINED]],
)
def test_options_of_the_other_measurements_are_refused(
    tool, capsys, mode, option
):
    with pytest.raises(SystemExit):
        tool.parse_args([*mode, *option], '')
    message = f'{option[0]} is ignored by {mode[0]}, it is for the grid'
    assert message in capsys.readouterr().err


def test_sigterm_is_told_from_ctrl_c(monkeypatch, tmp_path, capsys):
    def run(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(gpu_first, 'run', run)
    path = str(tmp_path / 'a.json')
    with pytest.raises(SystemExit) as ended:
        benchmark.main(['--gpu-first', '--dry-run', '--json', path])
    assert ended.value.code == 128 + signal.SIGTERM
    assert 'stopped by SIGTERM' in capsys.readouterr().err
