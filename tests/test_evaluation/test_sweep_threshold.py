"""The sweep tool and the comparison tool, from files to files."""

import contextlib
import errno
import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from mmscope.analysis.markers import markers
from mmscope.evaluation import SweepResult

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / 'docs/results'
MARKED = '# Results\n\n{}\nstale\n{}\n\nThe end.\n'

pytest.importorskip('matplotlib', reason='the tools draw a picture')


@pytest.fixture
def compare_tool(build_segmentor, load_tool):
    return load_tool('compare_runs')


def test_gated_model_beside_its_baseline(
    sweep_tool, write_run, tmp_path, capsys
):
    quick = ['--device', 'cpu', '--repeats', '1', '--speed-images', '2']
    vim = str(tmp_path / 'vim.json')
    sweep_tool.main([*write_run('mmscope.VisionMamba'), *quick, '--json', vim])
    capsys.readouterr()
    out = tmp_path / 'out'
    sweep_tool.main(
        [
            *write_run(),
            *quick,
            *('--num-quantiles', '1', '--name', 'Scope'),
            *('--out-dir', str(out), '--json'),
        ]
    )
    # A logger of another test may still write to this stdout, before it.
    printed = capsys.readouterr().out
    printed = json.loads(printed[printed.index('{') :])
    assert printed == json.loads((out / 'sweep.json').read_text())
    assert [row['exit_ratio'] for row in printed['rows']] == [1, 0.6, 0]
    assert all(row['images_per_s'] > 0 for row in printed['rows'])
    assert [f['batch_size'] for f in printed['throughput']] == 3 * [1] + 3 * [
        2
    ]
    assert printed['meta'] == {
        'name': 'Scope',
        'config': 'MambaScope.py',
        'checkpoint': 'MambaScope.pth',
        'split': 'test',
        'num_images': 5,
        'params': printed['meta']['params'],
        'seed': 0,
    }
    assert {path.name for path in out.iterdir()} == {
        'sweep.json',
        'sweep.csv',
        'sweep.md',
        'curve.png',
    }
    (row,) = json.loads(Path(vim).read_text())['rows']
    assert row['threshold'] is None
    assert row['images_per_s'] > 0


def test_curve_and_quality_of_the_confidence_are_printed(
    sweep_tool, write_run, capsys
):
    run = [*write_run(), '--device', 'cpu', '--speed-images', '0']
    sweep_tool.main([*run, '--num-quantiles', '1'])
    printed = capsys.readouterr().out
    assert printed.startswith('|   threshold |')
    assert 'images/s' not in printed
    assert 'rank r with gain' in printed
    assert 'order quality' in printed


def test_wrong_input_ends_in_a_sentence(sweep_tool, write_run, tmp_path):
    config, checkpoint = write_run()
    with pytest.raises(SystemExit, match='has no val_dataloader'):
        sweep_tool.main([config, checkpoint, '--split', 'val'])
    with pytest.raises(SystemExit, match='does not exist'):
        sweep_tool.main([config, str(tmp_path / 'none.pth')])


@pytest.mark.parametrize('option', ['--out-dir', '--json', '--save-threshold'])
def test_a_place_that_cannot_be_written_to_is_told_before_the_scoring(
    sweep_tool, write_run, tmp_path, monkeypatch, option
):
    def closed(dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))

    def scored(*args):
        raise AssertionError

    tool = 'mmscope.cli.sweep_threshold'
    monkeypatch.setattr(f'{tool}.TemporaryFile', closed)
    monkeypatch.setattr(f'{tool}.score_split', scored)
    run = [*write_run(), '--target-flops', '0.5', '--choose-on', 'test']
    with pytest.raises(SystemExit, match='cannot be written: Read-only file'):
        sweep_tool.main([*run, option, str(tmp_path / 'a')])


@pytest.mark.parametrize('option', ['--json', '--save-threshold'])
def test_a_folder_in_the_place_of_a_file_is_told(
    sweep_tool, write_run, tmp_path, option
):
    run = [*write_run(), '--target-flops', '0.5', '--choose-on', 'test']
    with pytest.raises(SystemExit, match=f'{option} .* is a folder'):
        sweep_tool.main([*run, option, str(tmp_path)])


@pytest.fixture
def sweeps(tmp_path):
    """Two stored sweeps, a single row and a curve."""
    image = {'name': 'a', 'fine_mIoU': 40.0, 'fine_aAcc': 70.0}
    row = {'mIoU': 40.0, 'mean_cost': 3.0, 'backbone_cost': 1.0}
    plain = {
        'score': 'mIoU',
        'convention': 'paper',
        'rows': [{'threshold': None, 'exit_ratio': 0.0, **row}],
        'confidence': {},
        'images': [image],
        'throughput': [],
        'meta': {'name': 'ViM', 'split': 'test', 'params': 2500000},
    }
    curve = {'random': 39.0, 'random_std': 0.5, 'oracle': 41.0}
    rows = [
        {'threshold': 0.0, 'exit_ratio': 1.0, **row, **curve, 'mIoU': 38.25},
        {'threshold': 2.0, 'exit_ratio': 0.0, **row, **curve, 'mIoU': 42.5},
    ]
    found = {'pearson': -0.25, 'spearman': None}
    known = {'score': 'mIoU', 'mean_gain': 4.25}
    for key, value in found.items():
        known |= {f'gain_{key}': value, f'coarse_score_{key}': value}
    gated = {
        **plain,
        'rows': rows,
        'confidence': {
            'scores': [known],
            'order_quality': 0.125,
            'kinds': [{'kind': 'entropy', **found, 'order_quality': 0.75}],
        },
        'images': [{**image, 'confidence': 0.5, 'gain_mIoU': 4.25}],
        'meta': {**plain['meta'], 'name': 'Scope'},
    }
    paths = []
    for name, content in (('vim', plain), ('scope', gated)):
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
        paths.append(str(tmp_path / f'{name}.json'))
    return paths


def cells(table):
    return [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in table.splitlines()
    ]


def test_report_holds_the_numbers_of_the_files(compare_tool, sweeps, capsys):
    compare_tool.main(sweeps)
    report = capsys.readouterr().out
    models, curves, quality, kinds = map(cells, report.split('\n\n')[1::2])
    assert kinds[-1] == ['Scope', 'entropy', '-0.250', '-', '+0.750']
    assert models[-2][:3] == ['ViM', '2.50', '-']
    assert models[-1][2] == '38.25'
    assert '39.00 ± 0.50' in curves[-1]
    assert quality[-1][2:] == ['+4.25', '-0.250', '-', '-', '+0.125']


def test_a_sweep_of_an_older_version_is_refused(compare_tool, sweeps):
    content = json.loads(Path(sweeps[1]).read_text())
    content['confidence']['scores'] = {'mIoU': {'mean_gain': 4.25}}
    Path(sweeps[1]).write_text(json.dumps(content))
    with pytest.raises(SystemExit, match='scope.json .* older version'):
        compare_tool.main(sweeps)


def test_report_lists_what_other_settings_give(compare_tool, sweeps, capsys):
    content = json.loads(Path(sweeps[0]).read_text())
    row = {**content['rows'][0], 'mIoU': 21.5, 'mean_cost': 1.25}
    settings = 'reduction.keep_ratio=0.5'
    content['variants'] = [{'settings': settings, 'rows': [row]}]
    Path(sweeps[0]).write_text(json.dumps(content))
    compare_tool.main(sweeps)
    report = capsys.readouterr().out
    assert 'for which nobody trained them' in report
    line = next(x for x in report.splitlines() if settings in x)
    assert '| ViM' in line
    assert '21.50' in line
    assert '1.2500' in line


def test_report_goes_between_the_markers_and_is_checked(
    compare_tool, sweeps, tmp_path
):
    document = tmp_path / 'results.md'
    document.write_text(MARKED.format(*markers('compare_runs')))
    options = [*sweeps, '--insert', str(document)]
    with pytest.raises(SystemExit, match='is out of date'):
        compare_tool.main([*options, '--check'])
    compare_tool.main([*options, '--picture', str(tmp_path / 'curve.png')])
    text = document.read_text()
    assert text.startswith('# Results')
    assert text.endswith('The end.\n')
    assert '\n| Scope ' in text
    assert 'Sweeps: [ViM](vim.json), [Scope](scope.json).' in text
    assert 'stale' not in text
    compare_tool.main([*options, '--check'])
    compare_tool.main(['--insert', str(document), '--check'])
    document.write_text(text.replace('42.50', '52.50'))
    with pytest.raises(SystemExit, match='is out of date'):
        compare_tool.main([*options, '--check'])
    with Image.open(tmp_path / 'curve.png') as picture:
        assert picture.width > 2 * picture.height


def test_document_without_markers_is_refused(compare_tool, sweeps, tmp_path):
    document = tmp_path / 'results.md'
    document.write_text('# Results\n')
    with pytest.raises(SystemExit, match='compare_runs: begin'):
        compare_tool.main([*sweeps, '--insert', str(document)])


def test_document_that_links_no_sweep_needs_names(compare_tool, tmp_path):
    document = tmp_path / 'results.md'
    document.write_text(MARKED.format(*markers('compare_runs')))
    with pytest.raises(SystemExit, match='links no sweep'):
        compare_tool.main(['--insert', str(document)])


@pytest.mark.parametrize(
    'document',
    [
        path
        for path in sorted(RESULTS.glob('*.md'))
        if 'compare_runs: begin' in path.read_text()
    ],
    ids=lambda path: path.stem,
)
def test_published_results_are_what_their_sweeps_say(compare_tool, document):
    compare_tool.main(['--insert', str(document), '--check'])


@pytest.mark.parametrize(
    'path',
    [
        path
        for path in sorted(RESULTS.glob('*/*.json'))
        if '"convention"' in path.read_text()
    ],
    ids=lambda path: f'{path.parent.name}-{path.stem}',
)
def test_published_sweeps_are_read_to_the_last_digit(path):
    old = json.loads(path.read_text())
    result = SweepResult.read(path)
    new = json.loads(result.to_json())
    for part in ('rows', 'images'):
        for before, after in zip(old[part], new[part], strict=True):
            assert {name: after[name] for name in before} == before
    if old['confidence']:
        quality = result.confidence
        assert quality.order_quality == old['confidence']['order_quality']
        assert new['confidence']['scores'] == old['confidence']['scores']
    # What is written now is read as well.
    assert SweepResult.from_json(new).to_json() == result.to_json()


@pytest.mark.parametrize(
    'change',
    [
        {'rows': []},
        {'rows': [{'mIoU': 1.0, 'mean_cost': 1.0}]},
        {'rows': [{'threshold': 'a', 'mIoU': 1.0, 'mean_cost': 1.0}]},
        {'score': 5},
        {'score': 'nosuch'},
    ],
)
def test_a_sweep_whose_rows_are_none_is_refused(sweeps, change):
    content = json.loads(Path(sweeps[0]).read_text()) | change
    Path(sweeps[0]).write_text(json.dumps(content))
    with pytest.raises(ValueError, match='is not the JSON of a sweep .* rows'):
        SweepResult.read(sweeps[0])


def test_sweeps_of_other_data_are_not_compared(compare_tool, sweeps):
    other = json.loads(Path(sweeps[0]).read_text())
    other['meta']['split'] = 'val'
    Path(sweeps[0]).write_text(json.dumps(other))
    with pytest.raises(SystemExit, match='differ in their split'):
        compare_tool.main(sweeps)


@pytest.fixture
def classifiers(sweeps):
    """The two stored sweeps as those of classifiers."""
    for path, cost in zip(sweeps, (4.0, 1.0), strict=True):
        text = Path(path).read_text().replace('mIoU', 'top1')
        content = json.loads(text)
        for row in content['rows']:
            row.update(ece=2.5, exited=None, refined=None)
        content['rows'][0]['mean_cost'] = cost
        content['meta']['num_images'] = 70
        content['images'] = []
        Path(path).write_text(json.dumps(content))
    return sweeps


def test_classifiers_are_compared_at_shares_of_the_baseline(
    compare_tool, classifiers, capsys
):
    compare_tool.main(classifiers)
    report = capsys.readouterr().out
    assert report.startswith('70 images of the test split')
    models, budgets, curves, _, kinds = report.split('\n\n')[1::2]
    assert 'ECE, none exits' in models
    assert 'backbone' not in models
    half, _, whole = budgets.splitlines()[2:]
    # 2 of ViM's 4 GMACs allow the row of 1, all of them that of 3 too.
    assert '-1.75' in half
    assert '+2.50' in whole
    assert 'of those who exit' in curves
    assert 'entropy' in kinds


def test_no_score_is_lost_to_what_comes_after_it(
    sweep_tool, write_run, tmp_path, monkeypatch
):
    out, run = tmp_path / 'out', [*write_run(), '--device', 'cpu']
    few = ['--choose-on', 'test', '--target-flops', '1e-9']
    with pytest.raises(SystemExit, match='1e-09'):
        sweep_tool.main([*run, *few, '--out-dir', str(out)])
    kept = SweepResult.read(out / 'sweep.json')
    assert kept.num_images == len(kept.images) == 5

    def too_much(*args, **options):
        raise RuntimeError('CUDA out of memory')

    monkeypatch.setattr(sweep_tool, 'measure_throughput', too_much)
    file = tmp_path / 'a.json'
    with pytest.raises(SystemExit, match='out of memory'):
        sweep_tool.main([*run, '--json', str(file)])
    assert SweepResult.read(file).rows.equals(kept.rows)


def test_a_sweep_says_how_far_it_is(
    sweep_tool, write_run, monkeypatch, capsys
):
    monkeypatch.setattr('mmscope.inference.progress.LOG', 0.0)
    run = [*write_run(), '--device', 'cpu', '--speed-images', '0']
    sweep_tool.main(run)
    said = capsys.readouterr().err
    assert re.search(r'scoring: 5 of 5 images, [\d.]+ images/s\n', said)
    # Weights that nobody trained may have no temperature.
    with contextlib.suppress(SystemExit):
        sweep_tool.main([*run, '--calibrate', '--choose-on', 'test'])
    assert 'calibrating: 5 of 5 images' in capsys.readouterr().err


def test_what_would_stop_it_later_stops_it_first(
    sweep_tool, write_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(sweep_tool, 'score_split', None)
    drop = ['--device', 'cpu', '--max-drop', '1', '--choose-on', 'test']
    plain = write_run('mmscope.VisionMamba')
    with pytest.raises(SystemExit, match='has no early exit'):
        sweep_tool.main([*plain, *drop])
    file = ['--save-threshold', str(tmp_path)]
    with pytest.raises(SystemExit, match='is a folder'):
        sweep_tool.main([*write_run(), *drop, *file])


def test_variants_by_chance_repeat_and_leave_out_images_too(
    sweep_tool, write_run, tmp_path
):
    run = [*write_run(), '--device', 'cpu', '--speed-images', '0']
    vary = ['--vary', 'score_metric=random', 'refine_ratio=0.5']
    found = []
    for name in 'ab':
        out = ['--out-dir', str(tmp_path / name), '--no-images']
        sweep_tool.main([*run, *vary, *out])
        (file,) = (tmp_path / name / 'variants').iterdir()
        found.append(json.loads(file.read_text()))
    assert found[0] == found[1]
    assert found[0]['images'] == []
