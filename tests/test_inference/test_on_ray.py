"""The same table from actors of a Ray cluster, one of which is killed."""

import threading
import time

import pytest
from builders import classification
from builders.runs import write_run
from builders.tools import load_tool

from .streams import write_images

pytestmark = pytest.mark.slow
pandas = pytest.importorskip('pandas')
pytest.importorskip('pyarrow', reason='tables need pyarrow')
psutil = pytest.importorskip('psutil')


def infer(run, out, *options):
    load_tool('infer').main(
        [
            *(run.config, run.checkpoint, str(run.folder / 'noise')),
            *('--out', str(out), '--device', 'cpu', '--workers', '0'),
            *('--coarse-batch', '2', *options),
        ]
    )
    return pandas.read_parquet(out)


@pytest.fixture
def run(tmp_path):
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    (tmp_path / 'noise').mkdir()
    write_images(tmp_path / 'noise', [(64, 64)] * 400)
    loader = classification.dataloader(tmp_path / 'noise', False)
    meta = {'dataset_meta': {'classes': sorted(classification.COLOURS)}}
    model = classification.classifier()
    return write_run(tmp_path, 'mmpretrain', model, loader, 'run', **meta)


def kill_an_actor(out, killed):
    """Once rows have come, and from this process's children alone."""
    while not [*out.glob('part-*')]:
        time.sleep(0.01)
    for child in psutil.Process().children(recursive=True):
        if 'Predictor' in ' '.join(child.cmdline()):
            child.kill()
            killed.append(child.pid)
            return


def test_a_killed_actor_changes_nothing(run, tmp_path):
    pytest.importorskip('ray', reason='needs Ray')
    out, killed = tmp_path / 'ray.parquet', []
    killer = threading.Thread(target=kill_an_actor, args=(out, killed))
    killer.start()
    options = ['--ray', '2', '--threshold', '0.6', '--rows-per-file', '20']
    found = infer(run, out, *options)
    killer.join()
    assert killed
    expected = infer(run, tmp_path / 'here', '--threshold', '0.6')
    assert list(found['name']) == list(expected['name'])
    pandas.testing.assert_frame_equal(found, expected, rtol=1e-4)


def test_without_ray_it_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'ray', None)
    with pytest.raises(SystemExit, match=r'mmscope\[ray\]'):
        infer(run, tmp_path / 'a', '--ray', '2')
