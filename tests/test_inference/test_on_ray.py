"""The same table from actors of a Ray cluster, one of which is killed."""

import contextlib
import os
import threading
import time

import pytest
from builders import classification
from builders.runs import write_run
from builders.tools import load_tool

from mmscope.errors import UserError
from mmscope.inference.on_ray import check_room, rows_on_ray

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
    while not killed:
        time.sleep(0.01)
        for child in psutil.Process().children(recursive=True):
            # Others end meanwhile.
            with contextlib.suppress(psutil.Error):
                actor = 'Predictor' in ' '.join(child.cmdline())
                if actor and [*out.glob('part-*')]:
                    child.kill()
                    killed.append(child.pid)
                    return


def test_a_killed_actor_changes_nothing(run, tmp_path):
    pytest.importorskip('ray', reason='needs Ray')
    out, killed = tmp_path / 'ray.parquet', []
    killer = threading.Thread(
        target=kill_an_actor, args=(out, killed), daemon=True
    )
    killer.start()
    options = ['--ray', '2', '--threshold', '0.6', '--rows-per-file', '20']
    found = infer(run, out, *options)
    killer.join(60)
    assert killed
    expected = infer(run, tmp_path / 'here', '--threshold', '0.6')
    assert list(found['name']) == list(expected['name'])
    pandas.testing.assert_frame_equal(found, expected, rtol=1e-4)


def test_without_ray_it_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'ray', None)
    with pytest.raises(SystemExit, match=r'mmscope\[ray\]'):
        infer(run, tmp_path / 'a', '--ray', '2')


def node(cpus, gpus=0, alive=True):
    return {'Alive': alive, 'Resources': {'CPU': cpus, 'GPU': gpus}}


def test_actors_without_room_are_refused_before_anybody_waits():
    nodes = [node(16.0, 4), node(9.0), node(64.0, 8, alive=False)]
    check_room(nodes, 2, cpus=9, gpus=0)
    check_room(nodes, 4, cpus=4, gpus=1)
    with pytest.raises(UserError, match='3 actors .* room for 2'):
        check_room(nodes, 3, cpus=9, gpus=0)
    with pytest.raises(UserError, match='9 cores .* room for 1'):
        check_room(nodes, 2, cpus=9, gpus=1)


def die():
    os._exit(1)


def test_images_that_kill_every_actor_end_the_command(tmp_path):
    pytest.importorskip('ray', reason='needs Ray')
    rows = rows_on_ray(die, tmp_path, ['a', 'b'], 1, 2, 1, 0)
    with pytest.raises(UserError, match='over the images a to b'):
        next(rows)
