"""The tool, from files to a picture; views are what the record says."""

import numpy as np
import pytest

matplotlib = pytest.importorskip('matplotlib', reason='the tool draws')

from mmengine.dataset import pseudo_collate  # noqa: E402

from mmscope.models import observe  # noqa: E402

from .conftest import load_tool, write_run  # noqa: E402

REDUCTION = 'model.backbone.reduction'


@pytest.fixture
def tool():
    return load_tool('show_reduction')


@pytest.fixture
def drawn(monkeypatch):
    """The views and options of every figure."""
    from mmscope.visualization import pictures

    figures = []
    draw = pictures.reduction_figure

    def note(views, *options):
        figures.append((views, options))
        return draw(views, *options)

    monkeypatch.setattr(pictures, 'reduction_figure', note)
    return figures


def show(tool, run, *options):
    tool.main([run.config, run.checkpoint, '--device', 'cpu', *options])


def recorded(run, index, **options):
    """What the model itself hands out about an image of the test split."""
    from mmscope.evaluation.loading import (
        build_dataloader,
        build_model,
        open_config,
    )

    cfg = open_config(run.config, options)
    model = build_model(cfg, run.checkpoint, 'cpu')
    item = build_dataloader(cfg).dataset[index]
    with observe(model) as records:
        model.test_step(pseudo_collate([item]))
    return records[0]


def test_a_classifier_that_prunes(tool, dyvm_run, drawn, tmp_path):
    out = tmp_path / 'new' / 'a.png'
    show(tool, dyvm_run, '--indices', '2', '--out', str(out))
    assert matplotlib.image.imread(out).std() > 0.1
    (((view,), (classes, *_)),) = drawn
    assert tuple(classes) == ('blue', 'green', 'red')
    record = recorded(dyvm_run, 2)
    assert view.canvas == (64, 64)
    assert [stage.tokens for stage in view.stages] == [12, 8]
    for stage, found in zip(view.stages, record.reductions, strict=True):
        cells = {divmod(int(i), 4) for i in found.kept[0]}
        assert {tuple(x) for x in np.argwhere(stage.kept).tolist()} == cells
    ran = sum(int(x.sum()) for x in record.directions)
    assert view.directions == (ran, 8)
    assert 0 < ran < 8
    assert view.tokens == 17
    assert view.label.labels == [2]


def test_a_segmentor_that_merges_with_padding(
    tool, merging_run, drawn, tmp_path
):
    out = ['--out-dir', str(tmp_path)]
    show(tool, merging_run, *out)
    names = [f'reduction_000{i}_{i}.png' for i in (0, 1)]
    names.append('reduction_overview.png')
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    views, _ = drawn[-1]
    record = recorded(merging_run, 1)
    assert views[1].image.shape == (40, 90, 3)
    # The last row of patches lies outside the image.
    assert views[1].canvas == (64, 96)
    assert [stage.tokens for stage in views[1].stages] == [20, 15, 10]
    assert views[1].directions is None
    for stage, found in zip(views[1].stages, record.reductions, strict=True):
        (group,) = found.group_of_input.tolist()
        # The cls token stands in the middle of 24 patches, in no group.
        own = group.pop(12)
        assert stage.groups.tolist() == np.reshape(group, (4, 6)).tolist()
        assert own not in stage.groups


def test_hidden_align_is_drawn_from_files_alone(
    tool, merging_run, drawn, tmp_path
):
    image = merging_run.folder / 'images' / '0.jpg'
    pruning = {
        f'{REDUCTION}._delete_': True,
        f'{REDUCTION}.type': 'mmscope.HiddenAlign',
        f'{REDUCTION}.prune_layers': (2,),
        f'{REDUCTION}.keep_ratio': 0.5,
    }
    options = [f'{key}={value}' for key, value in pruning.items()]
    options = ['--cfg-options', *(x.replace(' ', '') for x in options)]
    out = ['--out', str(tmp_path / 'a.png'), '--images', str(image)]
    show(tool, merging_run, *out, *options)
    (((view,), _),) = drawn
    (stage,) = view.stages
    assert view.label is None
    assert stage.kept.shape == (4, 6)
    assert (stage.kept.sum(), stage.tokens) == (12, 13)


def test_a_detector_has_its_boxes_beside_the_stages(
    tool, detector_run, drawn, tmp_path
):
    from builders import detection

    reduction = {'type': 'mmscope.HiddenAlign', 'prune_layers': (1,)}
    backbone = detection.backbone(
        type='mmscope.VisionMamba', reduction=reduction
    )
    del backbone['exit_head']
    model = detection.cascade('CascadeRCNN', backbone=backbone)
    loader = detection.dataloader(detector_run.folder, False, scale=(96, 96))
    run = write_run(tmp_path, 'mmdet', model, loader, 'align')
    show(tool, run, '--indices', '0', '--out', str(tmp_path / 'a.png'))
    (((view,), _),) = drawn
    (stage,) = view.stages
    # 48 x 64 is resized to 72 x 96 and padded to a square of 128.
    assert view.canvas == (128, 128)
    assert stage.kept.shape == (8, 8)
    assert stage.kept.sum() + 1 == stage.tokens
    assert len(view.label) == 2
    assert len(view.prediction) == 10


def refusal(tool, run, *options):
    with pytest.raises(SystemExit) as stop:
        show(tool, run, *options)
    return str(stop.value)


def test_models_that_reduce_nothing_are_sent_to_the_right_place(
    tool, segmentor_run, dyvm_run
):
    assert 'show_scope.py' in refusal(tool, segmentor_run)
    gone = ['--cfg-options', f'{REDUCTION}=None']
    said = refusal(tool, dyvm_run, *gone)
    assert 'VisionMamba reduces no tokens' in said
    said = refusal(load_tool('show_scope'), dyvm_run)
    assert 'show_reduction.py' in said
    assert 'image 9 is outside' in refusal(tool, dyvm_run, '--indices', '9')
