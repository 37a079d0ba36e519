"""Pictures of a real segmentor on a real data set."""

import pytest

pytest.importorskip('matplotlib', reason='pictures need it')


@pytest.fixture
def swept(write_run):
    from mmscope.evaluation import sweep
    from mmscope.evaluation.loading import (
        build_dataloader,
        build_model,
        open_config,
    )

    config, checkpoint = write_run()
    cfg = open_config(config)
    model = build_model(cfg, checkpoint, 'cpu')
    loader = build_dataloader(cfg)
    result = sweep(model, loader, num_quantiles=1, num_draws=2)
    return model, loader.dataset, result


def test_views_hold_what_the_model_decided(swept):
    import numpy as np
    from PIL import Image

    from mmscope.models.scoping import attach_gate
    from mmscope.visualization import predict_views

    model, dataset, result = swept
    attach_gate(model, result.rows['threshold'][1])
    views = predict_views(model, dataset, [0, 1, 2, 3, 4])
    assert sum(view.exited for view in views) == 3
    images = result.images.to_dict('records')
    for view, image in zip(views, images, strict=True):
        assert f'{view.name}.png' == image['name']
        assert view.confidence == pytest.approx(image['confidence'], abs=1e-6)
        assert view.refined.sum() == (0 if view.exited else 5)
        assert view.importance.shape == (2, 3)
        assert view.canvas == (64, 96)
    stored = np.array(Image.open(dataset.get_data_info(0)['img_path']))
    assert (views[0].image == stored).all()


def has_content(path):
    """Whether a picture is more than one colour."""
    from PIL import Image

    with Image.open(path) as picture:
        extrema = picture.convert('L').getextrema()
    return extrema[1] - extrema[0] > 200


def test_pictures_are_written(swept, tmp_path):
    from mmscope.visualization import draw_exit_gallery, draw_scopes

    model, dataset, result = swept
    files = draw_scopes(model, dataset, tmp_path / 'p', [0, 3])
    assert [file.name for file in files] == [
        'scope_0000_0.png',
        'scope_0003_3.png',
        'scope_overview.png',
    ]
    gallery = draw_exit_gallery(
        model, dataset, tmp_path / 'gallery.png', result.images, number=2
    )
    assert all(has_content(path) for path in [*files, gallery])


def test_sweep_of_other_data_is_refused(swept, tmp_path):
    from mmscope.visualization import draw_exit_gallery

    model, dataset, result = swept
    with pytest.raises(ValueError, match='4 images, the data set 5'):
        draw_exit_gallery(
            model, dataset, tmp_path / 'g.png', result.images[:4]
        )


def test_single_stage_backbone_has_no_scope(write_run):
    from mmscope.evaluation.loading import build_model, open_config
    from mmscope.visualization import predict_views

    config, checkpoint = write_run('mmscope.VisionMamba')
    model = build_model(open_config(config), checkpoint, 'cpu')
    with pytest.raises(ValueError, match='only once'):
        predict_views(model, [], [])
