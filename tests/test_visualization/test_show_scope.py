"""The tool, from files to a picture, for every host."""

import json

import pytest
from builders.choices import exit_choice

from .conftest import load_tool, write_run

matplotlib = pytest.importorskip('matplotlib', reason='the tool draws')


@pytest.fixture
def tool():
    return load_tool('show_scope')


@pytest.fixture
def drawn(monkeypatch):
    """The views and options of every figure."""
    from mmscope.visualization import pictures

    figures = []
    draw = pictures.scope_figure

    def note(views, classes, *options):
        figures.append((views, tuple(classes), options))
        return draw(views, classes, *options)

    monkeypatch.setattr(pictures, 'scope_figure', note)
    return figures


def show(tool, run, *options):
    tool.main([run.config, run.checkpoint, '--device', 'cpu', *options])


def test_a_detector_on_its_test_split(tool, detector_run, drawn, tmp_path):
    out = tmp_path / 'new' / 'a.png'
    options = ['--score-thr', '0.2', '--panel-width', '1']
    options += ['--importances', 'detail', '--indices', '2']
    show(tool, detector_run, *options, '0', '--out', str(out))
    assert matplotlib.image.imread(out).std() > 0.1
    ((views, classes, (_, *options)),) = drawn
    assert [view.name for view in views] == ['2', '0']
    assert classes == ('square', 'flat')
    assert options == [0.2, 1.0]
    assert all(list(view.others) == ['detail'] for view in views)
    assert all(len(view.label) == 2 for view in views)


def test_files_need_no_data_set(tool, detector_run, drawn, tmp_path, capsys):
    image = detector_run.folder / 'images' / '3.png'
    gone = 'test_dataloader.dataset.ann_file=gone.json'
    # A folder, though its name ends like a file's.
    out = tmp_path / 'ratio_0.5'
    files = ['--images', str(image), str(image), '--out-dir', str(out)]
    show(tool, detector_run, *files, '--cfg-options', gone)
    names = ['scope_0000_3.png', 'scope_0001_3.png', 'scope_overview.png']
    assert sorted(path.name for path in out.iterdir()) == names
    assert str(out / names[-1]) in capsys.readouterr().out
    views, classes, _ = drawn[-1]
    assert classes == ('square', 'flat')
    assert [view.label for view in views] == [None, None]
    assert len(views[0].prediction) == 10


def test_a_segmentor_exits_at_the_threshold_of_a_file(
    tool, segmentor_run, drawn, tmp_path
):
    chosen = exit_choice('mIoU', exit_threshold=0.0, confidence='mean_present')
    chosen.write(tmp_path / 'eta.json')
    out = ['--out', str(tmp_path / 'a.png'), '--exit-threshold']
    show(tool, segmentor_run, *out, str(tmp_path / 'eta.json'))
    show(tool, segmentor_run, *out, '2')
    (exiting, *_), (going_on, *_) = drawn
    # Fewer images than are drawn by default.
    assert [view.exited for view in exiting] == [True, True]
    assert [view.exited for view in going_on] == [False, False]
    assert exiting[0].prediction.shape == (64, 96)
    assert exiting[0].label.shape == (64, 96)


def test_a_classifier_names_its_classes(tool, classifier_run, drawn, tmp_path):
    out = ['--out', str(tmp_path / 'a.png')]
    show(tool, classifier_run, *out)
    image = classifier_run.folder / 'photos' / 'red' / '0.png'
    show(tool, classifier_run, *out, '--images', str(image))
    (split, classes, _), (files, same, _) = drawn
    assert classes == same == ('blue', 'green', 'red')
    assert [view.label.labels for view in split] == [[0], [1], [2]]
    assert split[2].prediction == files[0].prediction
    assert 1 / 3 <= files[0].prediction.scores[0] <= 1
    assert files[0].label is None


def test_the_gate_of_the_config_decides_by_default(
    tool, detector_run, drawn, tmp_path
):
    out = ['--indices', '0', '--out', str(tmp_path / 'a.png')]
    gate = 'custom_hooks.0.exit_threshold'
    show(tool, detector_run, *out, '--cfg-options', f'{gate}=0.0')
    show(tool, detector_run, *out)
    assert [views[0].exited for views, *_ in drawn] == [True, False]


def test_images_are_spread_over_the_confidence(
    tool, detector_run, drawn, tmp_path
):
    out = ['--out', str(tmp_path / 'a.png'), '--exit-threshold', '2']
    show(tool, detector_run, *out, '--by-confidence', '9')
    show(tool, detector_run, *out, '--by-confidence', '2')
    (everything, *_), (ends, *_) = drawn
    confidences = [view.confidence for view in everything]
    assert len(set(confidences)) == 4
    assert confidences == sorted(confidences, reverse=True)
    assert [view.name for view in ends] == [
        everything[0].name,
        everything[-1].name,
    ]
    # Looking for them leaves the threshold alone.
    assert not any(view.exited for view in everything)


def refusal(tool, run, *options):
    with pytest.raises(SystemExit) as stop:
        show(tool, run, *options)
    return str(stop.value)


def test_wrong_input_ends_in_a_sentence(tool, detector_run, tmp_path):
    said = refusal(tool, detector_run, '--indices', '9')
    assert 'image 9 is outside' in said
    assert '0 to 3' in said
    said = refusal(tool, detector_run, '--split', 'val')
    assert 'no val_dataloader' in said
    (tmp_path / 'cut.png').write_bytes(
        (detector_run.folder / 'images' / '0.png').read_bytes()[:900]
    )
    for name in ('none.jpg', 'cut.png'):
        said = refusal(tool, detector_run, '--images', str(tmp_path / name))
        assert f'{name} cannot be read' in said


def test_a_wrong_threshold_is_refused(tool, detector_run, tmp_path, capsys):
    file = tmp_path / 'x.json'
    file.write_text(json.dumps({}))
    for value, reason in (
        ('often', 'expected a number >= 0'),
        (str(file), 'not a saved exit threshold'),
    ):
        refusal(tool, detector_run, '--exit-threshold', value)
        assert reason in capsys.readouterr().err


def test_a_vim_and_sliding_windows_are_refused(tool, segmentor_run, tmp_path):
    from builders import segmentation

    vim = segmentation.segmentor(
        host='EncoderDecoder', type='mmscope.VisionMamba'
    )
    del vim['backbone']['exit_head']
    loader = segmentation.dataloader(segmentor_run.folder, False)
    run = write_run(tmp_path, 'mmseg', vim, loader, 'vim')
    for options in ([], ['--by-confidence', '1']):
        said = refusal(tool, run, *options)
        assert 'VisionMamba looks at an image only once' in said
    slide = [
        'model.test_cfg.mode=slide',
        'model.test_cfg.crop_size=(64,64)',
        'model.test_cfg.stride=(64,32)',
    ]
    said = refusal(tool, segmentor_run, '--cfg-options', *slide)
    assert '2 forwards' in said
    assert 'mode="whole"' in said
