"""The measurements of many images, in a small form."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

from mmscope.benchmark import load_test, long_runs, streams
from mmscope.benchmark.many_images import part_section

ARCH = {'embed_dims': 16, 'num_layers': 4}
PAGE = Path(__file__).parents[2] / 'docs/results/many_images.md'


@pytest.mark.parametrize('host', streams.HOSTS)
def test_streams_are_compared_at_the_same_exits(host):
    pytest.importorskip(f'{streams.HOSTS[host][0]}.models')
    rows = streams.measure_streams(host, ARCH, 64, 16, 1)
    kinds = [(row.subject, row.batch) for row in rows]
    loops = [('ViM', 1), *[('loop', 1)] * 3, ('ViM', 8), *[('loop', 8)] * 3]
    ends = [('nobody exits', 8), ('all exit', 8)]
    assert kinds == [*ends, *loops, *[('engine', 8)] * 3]
    shared = {row.subject for row in rows if row.share is not None}
    assert shared == {'loop', 'engine'}


def test_thresholds_let_the_wanted_fraction_exit():
    model = streams.build('classifier', 'MambaScope', ARCH, 64)
    images = streams.make_images(16, 64)
    streams.TwoStageEngine(model, 0.5)
    etas = streams.exit_thresholds(model, images, (0.25, 0.75))
    for eta, wanted in zip(etas, (4, 12), strict=True):
        results = streams.TwoStageEngine(model, eta)(images)
        assert sum(one.exited for one in results) == wanted


def test_a_share_is_that_of_the_time_that_exits_promise():
    from mmscope.evaluation.interleaved_timing import Timing

    seconds = {'nobody exits': 10.0, 'all exit': 2.0, 'engine': 6.4}
    found = {
        (name, 8, {'all exit': 1.0, 'engine': 0.5}.get(name, 0.0)): Timing(
            [[value]]
        )
        for name, value in seconds.items()
    }
    found['ViM', 8, 0.0] = Timing([[9.6]])
    row = streams._row('classifier', ('engine', 8, 0.5), found, 16)
    # Half of them exit: 4 of 8 seconds are promised, 3.6 are won.
    assert row.share == 90.0
    assert row.times_vim == 1.5
    assert row.images_per_s == 2.5


def test_every_request_of_a_load_is_accounted_for():
    model = streams.build('classifier', 'MambaScope', ARCH, 64)
    engine = streams.TwoStageEngine(
        model, 0.5, 4, 4, max_wait=0.01, pipeline=long_runs.STEPS
    )
    classes = [*map(str, range(streams.CLASSES))]
    found = load_test.measure_load(
        engine, 'mmpretrain', classes, 64, 0.5, 4, 5.0, (0.5, 1.5)
    )
    assert found.capacity > 0
    for row in found.rates:
        assert row.sent == row.answered + row.refused
        assert row.late == row.lost == row.failed == 0
        assert 0 < row.p50_ms <= row.p99_ms


def test_memory_is_looked_at_as_often_as_asked():
    found = long_runs.measure_memory(300, 3)
    assert found.images == [100, 200, 300]
    assert found.mib[2] - found.mib[0] < 20


def test_a_run_that_would_be_killed_ends_with_the_tool(tmp_path, monkeypatch):
    started, popen = [], subprocess.Popen

    def start(*args, **options):
        started.append(popen(*args, **options))
        return started[-1]

    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(long_runs.subprocess, 'Popen', start)
    monkeypatch.setattr(long_runs.time, 'sleep', stop)
    with pytest.raises(KeyboardInterrupt):
        long_runs._kill_at(['sleep', '60'], tmp_path, 16)
    (child,) = started
    assert child.returncode == -signal.SIGKILL


def test_the_tool_measures_one_part_and_leaves_the_others(tmp_path, capsys):
    from builders.tools import load_tool

    file = tmp_path / 'many_images.json'
    file.write_text('{"kills": {"result": "of before"}}')
    load_tool('analysis_tools/many_images').main(
        ['--json', str(file), '--parts', 'memory', '--memory-images', '40']
    )
    found = json.loads(file.read_text())
    assert found['kills'] == {'result': 'of before'}
    assert found['memory']['result']['images'][-1] == 40
    assert 'MiB' in capsys.readouterr().out


def test_the_page_shows_what_the_file_says(tmp_path):
    from builders.tools import load_tool

    shutil.copy(PAGE, tmp_path)
    setting = {'machine': 'a quiet one'}
    kills = {'images': 10, 'kills': 1, 'rows_after': [4]}
    kills |= {'rows': 10, 'twice': 0, 'lost': 0}
    memory = {'images': [5, 10], 'mib': [100.0, 100.5], 'images_per_s': 7.0}
    result = {
        'memory': {'setting': setting, 'result': memory},
        'kills': {'setting': setting, 'result': kills},
    }
    (tmp_path / 'many_images.json').write_text(json.dumps(result))
    load_tool('speed_page').main(['--page', str(tmp_path / PAGE.name)])
    text = (tmp_path / PAGE.name).read_text()
    assert '10 images, 1 SIGKILLs (rows after each: 4)' in text
    assert 'Growth after the first 5 images: 0.5 MiB' in text
    assert part_section('classifier')({}) == 'Not measured yet.'
