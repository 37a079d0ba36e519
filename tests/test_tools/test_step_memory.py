from __future__ import annotations

import pytest
import torch

from mmscope.benchmark.memory import NO_METHOD, memory_method

from .conftest import load_tool

pytestmark = pytest.mark.skipif(
    memory_method(torch.device('cpu')) == NO_METHOD, reason=NO_METHOD
)


@pytest.fixture
def tool():
    return load_tool('analysis_tools/step_memory.py')


def test_a_child_prints_bytes(tool, capsys):
    tool.main(['--child', 'MambaScope', '64', '1'])
    assert int(capsys.readouterr().out.split()[-1]) >= 0


def test_a_setting_runs_in_a_process_of_its_own(tool, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # 36 MiB on one machine.
    assert 4 < tool.measure_apart('MambaScope', 64, with_cp=True) < 400


def test_the_page_has_a_row_for_each_backbone(tool, monkeypatch, tmp_path):
    class Done:
        def __init__(self, child):
            *_, kind, side, with_cp = child
            assert (kind, side) in (('A', '96'), ('B', '96'))
            self.stdout = f'noise\n{2**30 // (1 + 3 * int(with_cp))}\n'

    monkeypatch.setattr(
        tool.subprocess, 'run', lambda child, **options: Done(child)
    )
    page = tmp_path / 'memory.md'
    tool.main(['--types', 'A', 'B', '--side', '96', '--out', str(page)])
    for kind in 'AB':
        assert f'| {kind} | 96 | 1,024 | 256 | 0.25 |' in page.read_text()
