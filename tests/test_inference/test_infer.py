"""The tool that predicts folders of images into a table."""

import errno
import io
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders import classification, detection, segmentation
from builders.choices import exit_choice
from builders.runs import write_run
from builders.tools import load_tool

from .streams import write_images

pandas = pytest.importorskip('pandas')
pytest.importorskip('pyarrow', reason='tables need pyarrow')
COLOURS = sorted(classification.COLOURS)
# So many that none of the runs that are stopped is at its end.
MANY = 240


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A classifier with its files, and a folder of images."""
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    folder = tmp_path_factory.mktemp('infer')
    photos = classification.write_photos(folder / 'photos', per_class=5)
    loader = classification.dataloader(photos, False)
    model = classification.classifier()
    meta = {'dataset_meta': {'classes': COLOURS}}
    found = write_run(folder, 'mmpretrain', model, loader, 'run', **meta)
    found.photos = photos
    return found


def infer(run, source, out, *options):
    load_tool('infer').main(
        [
            *(run.config, run.checkpoint, str(source), '--out', str(out)),
            *('--device', 'cpu', '--workers', '0'),
            *map(str, options),
        ]
    )
    return pandas.read_parquet(out)


def test_one_row_an_image_says_what_it_shows(run, tmp_path, capsys):
    (run.photos / 'notes.txt').write_text('no image')
    table = infer(run, run.photos, tmp_path / 'a', '--threshold', '0.0')
    names = [f'{colour}/{i}.png' for colour in COLOURS for i in range(5)]
    assert sorted(table['name']) == names
    assert table['error'].isna().all()
    assert table['exited'].all()
    assert [COLOURS[i] for i in table['label']] == list(table['class'])
    assert table[['score', 'confidence', 'gmacs']].notna().all(axis=None)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith('15 of 15 images')
    assert '100.0 % exited' in said


def test_a_published_model_needs_no_config(tmp_path):
    from mmscope.cli.page import examples
    from mmscope.inference import from_pretrained

    (tmp_path / 'pictures').mkdir()
    model = from_pretrained('demo', device='cpu')
    files = examples(model, str(tmp_path / 'pictures'))
    load_tool('infer').main(
        [
            *('demo', str(tmp_path / 'pictures'), '--workers', '0'),
            *('--out', str(tmp_path / 'out'), '--threshold', '0.0'),
        ]
    )
    table = pandas.read_parquet(tmp_path / 'out')
    assert len(table) == len(files)
    assert table['exited'].all()
    # A picture of each class is named after it; s.e. of eight is one.
    told = zip(table['name'], table['class'], strict=True)
    assert sum(name.startswith(found) for name, found in told) >= 4


def test_too_many_words_for_a_model_are_named(capsys):
    with pytest.raises(SystemExit):
        load_tool('infer').parse_args(['a', 'b', 'c', 'd', '--out', 'e'])
    assert 'got 3 words: a b c' in capsys.readouterr().err


def test_a_second_run_only_adds_what_is_missing(run, tmp_path, capsys):
    out, names = tmp_path / 'a', tmp_path / 'list.txt'
    paths = [run.photos / f'red/{i}.png' for i in range(5)]
    names.write_text('\n'.join(map(str, paths[:3])) + '\n')
    infer(run, names, out, '--rows-per-file', 2)
    assert len(parts_of(out)) == 2
    names.write_text('\n'.join(map(str, paths)) + '\n')
    table = infer(run, names, out)
    assert list(table['name']) == [*map(str, paths)]
    assert len(parts_of(out)) == 3
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    infer(run, names, out)
    after = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert {p for p in after if after[p] != before.get(p)} <= {out / '.lock'}
    assert '5 of 5 images' in capsys.readouterr().out


def test_other_settings_do_not_mix(run, tmp_path):
    infer(run, run.photos, tmp_path / 'a', '--threshold', 0.5)
    with pytest.raises(SystemExit, match='threshold 0.5, now 0.6'):
        infer(run, run.photos, tmp_path / 'a', '--threshold', 0.6)
    infer(run, run.photos, tmp_path / 'a', '--threshold', 0.5)
    checkpoint = torch.load(run.checkpoint)
    checkpoint['state_dict']['head.fc.bias'] += 1
    torch.save(checkpoint, tmp_path / 'other.pth')
    other = SimpleNamespace(
        config=run.config, checkpoint=str(tmp_path / 'other.pth')
    )
    with pytest.raises(SystemExit, match='weights'):
        infer(other, run.photos, tmp_path / 'a', '--threshold', 0.5)


def test_a_missing_threshold_is_told(run, tmp_path, capsys):
    table = infer(run, run.photos, tmp_path / 'a')
    assert not table['exited'].any()
    assert 'no image exits: see --threshold' in capsys.readouterr().out


def test_a_threshold_may_be_a_file(run, tmp_path):
    chosen = exit_choice(exit_threshold=0.25, confidence='entropy')
    chosen.write(tmp_path / 'eta.json')
    options = ['--threshold', tmp_path / 'eta.json']
    table = infer(run, run.photos, tmp_path / 'a', *options)
    assert (table['exited'] == (table['confidence'] >= 0.25)).all()


def test_a_damaged_file_is_a_row_with_the_reason(run, tmp_path, capsys):
    paths = write_images(tmp_path, [(64, 64)] * 3)
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:60])
    table = infer(run, tmp_path, tmp_path / 'a').set_index('name')
    assert table['error'].notna().to_dict() == {
        '000.png': False,
        '001.png': True,
        '002.png': False,
    }
    assert table['label'].isna().sum() == 1
    assert '1 could not be read' in capsys.readouterr().out


def test_a_run_that_could_read_nothing_failed(run, tmp_path, capsys):
    names = tmp_path / 'list.txt'
    names.write_text('a.png\nb.png\n')
    with pytest.raises(SystemExit, match='no image could be read'):
        infer(run, names, tmp_path / 'a')
    assert '2 could not be read' in capsys.readouterr().out
    assert len(pandas.read_parquet(tmp_path / 'a')) == 2


@pytest.mark.parametrize('workers', [0, 1])
def test_a_killed_run_loses_nothing_and_repeats_nothing(
    run, tmp_path, workers
):
    """SIGKILL in the middle, three times, then to the end."""
    write_images(tmp_path, [(64, 64)] * MANY)
    out = tmp_path / 'out.parquet'
    options = ['--rows-per-file', 4, '--coarse-batch', 4, '--fine-batch', 4]
    options += ['--workers', workers]
    for wanted in (8, 16, 24):
        # Forked, not started anew: importing a host takes seconds.
        child = multiprocessing.get_context('fork').Process(
            target=infer, args=(run, tmp_path, out, *options)
        )
        child.start()
        wait_until(
            child, lambda wanted=wanted: 4 * len(parts_of(out)) >= wanted
        )
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        kept = pandas.read_parquet(out)
        assert kept['name'].is_unique
        assert wanted <= len(kept) < MANY
    table = infer(run, tmp_path, out)
    assert sorted(table['name']) == [f'{i:03}.png' for i in range(MANY)]


def wait_until(child, holds):
    deadline = time.monotonic() + 120
    while not holds():
        assert child.exitcode is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


def parts_of(out):
    return [*out.glob('part-*.parquet')]


def infer_at_a_terminal(*args):
    os.setpgrp()
    # Shells let jobs in the background ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    infer(*args)


@pytest.mark.parametrize(
    ('number', 'name'),
    [(signal.SIGTERM, 'SIGTERM'), (signal.SIGINT, 'Ctrl-C')],
)
def test_a_stopped_run_says_so_and_keeps_what_it_had(
    run, tmp_path, capfd, number, name
):
    write_images(tmp_path, [(64, 64)] * MANY)
    out = tmp_path / 'out.parquet'
    options = ['--rows-per-file', 4, '--coarse-batch', 4, '--workers', 1]
    child = multiprocessing.get_context('fork').Process(
        target=infer_at_a_terminal, args=(run, tmp_path, out, *options)
    )
    child.start()
    wait_until(child, lambda: parts_of(out))
    workers = children_of(child)
    os.killpg(child.pid, number)
    child.join()
    assert child.exitcode == 128 + number
    error = capfd.readouterr().err
    assert error.endswith(f'stopped by {name}: the same command goes on\n')
    assert 'Traceback' not in error
    wait_for_the_end_of(workers)
    assert 4 <= len(pandas.read_parquet(out)) < MANY


def test_a_disk_that_is_full_is_named(run, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr('pyarrow.parquet.write_table', full)
    with pytest.raises(SystemExit, match='No space left.*MiB free'):
        infer(run, run.photos, tmp_path / 'a')


def test_processes_end_with_the_one_that_was_killed(run, tmp_path):
    write_images(tmp_path, [(64, 64)] * MANY)
    child = multiprocessing.get_context('fork').Process(
        target=infer, args=(run, tmp_path, tmp_path / 'a', '--workers', 2)
    )
    child.start()
    wait_until(child, lambda: len(children_of(child)) == 2)
    workers = children_of(child)
    child.kill()
    child.join()
    wait_for_the_end_of(workers)


def children_of(process):
    path = f'/proc/{process.pid}/task/{process.pid}/children'
    return Path(path).read_text().split()


def wait_for_the_end_of(pids):
    deadline = time.monotonic() + 60
    while any(Path(f'/proc/{pid}/cwd').exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_processes_do_not_write_one_table(run, tmp_path):
    import fcntl

    (tmp_path / 'a').mkdir()
    with (tmp_path / 'a' / '.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match='another process'):
            infer(run, run.photos, tmp_path / 'a')


def test_a_list_that_repeats_itself_is_refused(run, tmp_path):
    names = tmp_path / 'list.txt'
    names.write_text(f'{run.photos}/red/0.png\n' * 2)
    with pytest.raises(SystemExit, match='second time in line 2'):
        infer(run, names, tmp_path / 'a')
    with pytest.raises(SystemExit, match='does not exist'):
        infer(run, tmp_path / 'absent', tmp_path / 'a')


def test_images_of_two_folders_do_not_mix_under_their_names(run, tmp_path):
    infer(run, run.photos / 'red', tmp_path / 'a')
    with pytest.raises(SystemExit, match='folder .*red.*, now .*blue'):
        infer(run, run.photos / 'blue', tmp_path / 'a')
    # A list beside the images means the same ones.
    names = run.photos / 'red' / 'list.txt'
    names.write_text('0.png\n')
    table = infer(run, names, tmp_path / 'a')
    names.unlink()
    assert len(table) == 5


def test_two_lists_of_a_folder_are_counted_apart(run, tmp_path, capsys):
    for name, images in (('1', 'red/0 red/1'), ('2', 'a b'), ('3', 'red/1')):
        lines = ''.join(f'{image}.png\n' for image in images.split())
        (run.photos / f'{name}.txt').write_text(lines)
    infer(run, run.photos / '1.txt', tmp_path / 'a')
    assert 'other images' not in capsys.readouterr().out
    with pytest.raises(SystemExit, match='no image could be read'):
        infer(run, run.photos / '2.txt', tmp_path / 'a')
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith('2 of 2 images')
    assert said.endswith('2 could not be read, other images in the table: 2')
    infer(run, run.photos / '3.txt', tmp_path / 'a')
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith('1 of 1 images')
    assert 'could not be read' not in said
    for name in '123':
        (run.photos / f'{name}.txt').unlink()


def test_a_folder_that_grew_goes_on_and_one_that_shrank_is_told(
    run, tmp_path, capsys
):
    (tmp_path / 'images').mkdir()
    paths = write_images(tmp_path / 'images', [(64, 64)] * 3)
    kept = Path(paths[0]).read_bytes()
    Path(paths[0]).unlink()
    infer(run, tmp_path / 'images', tmp_path / 'a')
    Path(paths[0]).write_bytes(kept)
    assert len(infer(run, tmp_path / 'images', tmp_path / 'a')) == 3
    assert '3 of 3 images' in capsys.readouterr().out
    Path(paths[1]).unlink()
    infer(run, tmp_path / 'images', tmp_path / 'a')
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith('2 of 2 images')
    assert said.endswith('other images in the table: 1')


def test_a_published_model_says_how_its_threshold_was_chosen(
    tmp_path, run, capsys
):
    eta = tmp_path / 'eta.json'
    command = [
        *('demo', str(run.photos), '--out', str(tmp_path / 'a')),
        *('--device', 'cpu', '--workers', '0', '--threshold', str(eta)),
    ]
    exit_choice(confidence='mean_present').write(eta)
    with pytest.raises(SystemExit, match="has 'max_prob' or 'entropy'"):
        load_tool('infer').main(command)
    # As beside a config, a classifier takes the kind with the threshold.
    exit_choice(confidence='entropy').write(eta)
    load_tool('infer').main(command)
    assert 'on entropy, chosen on 40 images' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('image.PNG', b'\x89PNG\n', 'is an image: give its folder'),
        ('archive', b'PK\3\4\n\0\0', 'is no text'),
        ('list.txt', b'\n\n', 'has no images'),
        ('folder/notes.txt', b'x', 'has no images'),
    ],
)
def test_what_names_no_images_is_refused(
    name, content, message, run, tmp_path
):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    source = path.parent if '/' in name else path
    with pytest.raises(SystemExit, match=message):
        infer(run, source, tmp_path / 'a')


def test_a_list_may_begin_with_a_byte_order_mark(run, tmp_path):
    names = tmp_path / 'list.txt'
    names.write_text(f'{run.photos}/red/0.png\n', encoding='utf-8-sig')
    assert infer(run, names, tmp_path / 'a')['error'].isna().all()


def test_a_pipe_is_no_image(run, tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    with pytest.raises(SystemExit, match='no image could be read'):
        infer(run, tmp_path, tmp_path / 'a')
    (error,) = pandas.read_parquet(tmp_path / 'a')['error']
    assert 'pipe.png is no file' in error


def test_a_place_without_room_for_a_folder_is_told(run, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(SystemExit, match='no table can be written to'):
        infer(run, run.photos, tmp_path / 'file' / 'a')


def test_a_device_of_another_machine_is_told(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        infer(run, run.photos, tmp_path / 'a', '--device', 'cuda:99')
    error = capsys.readouterr().err
    assert 'expected a device of this machine' in error


def test_a_published_model_without_names_of_classes_is_told(tmp_path, run):
    from mmscope.inference import from_pretrained, save_pretrained

    model = from_pretrained('demo', device='cpu')
    model.dataset_meta = {}
    save_pretrained(model, tmp_path / 'model')
    with pytest.raises(SystemExit, match='does not name its classes'):
        load_tool('infer').main(
            [
                *(str(tmp_path / 'model'), str(run.photos)),
                *('--out', str(tmp_path / 'a'), '--device', 'cpu'),
            ]
        )


def test_a_segmentor_writes_label_maps(tmp_path):
    pytest.importorskip('mmseg.models')
    from PIL import Image

    segmentation.write_scenes(tmp_path, num=3)
    loader = segmentation.dataloader(tmp_path, False)
    model = segmentation.segmentor()
    run = write_run(tmp_path, 'mmseg', model, loader, 'seg')
    table = infer(run, tmp_path / 'images', tmp_path / 'a')
    for row in table.itertuples():
        labels = np.array(Image.open(io.BytesIO(row.map_png)))
        assert labels.shape == (64, 96)
        shown = {segmentation.CLASSES[i] for i in np.unique(labels)}
        assert shown == set(row.classes)


def test_a_detector_writes_boxes_and_masks(tmp_path):
    pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
    from pycocotools import mask

    detection.write_coco(tmp_path)
    loader = detection.dataloader(tmp_path, False, scale=(96, 96))
    model = detection.cascade()
    model['backbone']['exit_head']['confidence'] = 'entropy'
    run = write_run(tmp_path, 'mmdet', model, loader, 'det')
    table = infer(run, tmp_path / 'images', tmp_path / 'a')
    assert len(table) == 4
    for row in table.itertuples():
        number = len(row.boxes)
        assert number == len(row.scores) == len(row.masks) > 0
        assert {*row.classes} <= {*detection.CLASSES}
        assert np.stack(row.boxes)[:, 2].max() <= row.width == 64
        shape = [row.height, row.width]
        decoded = mask.decode({'size': shape, 'counts': row.masks[0]})
        assert decoded.shape == (48, 64)


def test_a_folder_is_not_listed_into_memory(tmp_path, monkeypatch):
    """Names come while the folder is still being read."""
    from mmscope.inference.image_names import image_names

    write_images(tmp_path, [(4, 4)] * 5)
    read = Counter()
    scandir = os.scandir

    class Counted:
        def __init__(self, path):
            self.entries = scandir(path)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.entries.close()

        def __iter__(self):
            for entry in self.entries:
                read['entries'] += 1
                yield entry

    monkeypatch.setattr(os, 'scandir', Counted)
    names = image_names(tmp_path)
    next(names)
    assert read['entries'] == 1
    assert len(list(names)) == 4


def test_without_pyarrow_it_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(SystemExit, match=r'mmscope\[infer\]'):
        infer(run, run.photos, tmp_path / 'a')


def test_settings_lie_in_every_file(run, tmp_path):
    import pyarrow.parquet

    infer(run, run.photos, tmp_path / 'a', '--threshold', 0.5)
    (path,) = (tmp_path / 'a').glob('part-*')
    metadata = pyarrow.parquet.read_schema(path).metadata
    found = json.loads(metadata[b'mmscope'])
    assert found['classes'] == COLOURS
    assert found['threshold'] == 0.5
    assert found['confidence'] == 'max_prob'


def test_gpus_of_actors_need_actors(capsys):
    from mmscope.cli.infer import parse_args

    command = ['demo', 'images', '--out', 'a.parquet', '--ray-gpus', '1']
    with pytest.raises(SystemExit):
        parse_args(command)
    assert 'of an actor: add --ray ACTORS' in capsys.readouterr().err
    assert parse_args([*command, '--ray', '2']).ray_gpus == 1
