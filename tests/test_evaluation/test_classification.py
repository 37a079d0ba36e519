"""Accuracy and calibration of classifiers, by hand and in real runs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmscope.analysis import model_costs
from mmscope.evaluation import ClassificationScore, EarlyExitMetric, sweep
from mmscope.evaluation.classification import bin_index
from mmscope.evaluation.confidence_quality import confidence_bins

PLAIN_HEAD = {'type': 'LinearClsHead', 'loss': {'type': 'CrossEntropyLoss'}}
HOSTS = {
    'own host': {},
    'plain host': {'host': 'ImageClassifier', 'head': PLAIN_HEAD},
}


class Sample(SimpleNamespace):
    def __contains__(self, name):
        return hasattr(self, name)


def sample(scores, *label):
    return Sample(
        pred_score=torch.tensor(scores), gt_label=torch.tensor(label)
    )


def test_calibration_error_by_hand():
    # Bins of a fifteenth: 0.9 and 0.92 are in (13/15, 14/15], 0.6 is in
    # (8/15, 9/15]. Gaps: 1 - 0.9 + 0 - 0.92 = -0.82 and 1 - 0.6 = 0.4.
    score = ClassificationScore(2)
    images = [
        score.measure(sample([0.9, 0.1], 0)),
        score.measure(sample([0.08, 0.92], 0)),
        score.measure(sample([0.6, 0.4], 0)),
    ]
    total = np.sum(images, 0)
    assert score.total(total) == pytest.approx(200 / 3)
    (name, ece), *others = score.extras(total).items()
    assert name == 'ece'
    assert not others
    assert ece == pytest.approx(100 * (0.82 + 0.4) / 3, abs=1e-5)


def test_bins_include_their_upper_edge():
    edges = np.array([0.0, 1 / 15, 0.07, 0.999, 1.0])
    assert bin_index(edges).tolist() == [0, 0, 1, 14, 14]


def test_top5_needs_six_classes():
    scores = [0.3, 0.25, 0.2, 0.12, 0.08, 0.05]
    score = ClassificationScore(6)
    rows = np.stack([score.measure(sample(scores, k)) for k in range(6)])
    assert score.per_image(rows)['top1'].tolist() == [100, 0, 0, 0, 0, 0]
    assert score.per_image(rows)['top5'].tolist() == 5 * [100] + [0]
    assert score.extras(rows.sum(0))['top5'] == pytest.approx(500 / 6)
    assert list(ClassificationScore(5).per_image(rows)) == ['top1']


def test_histogram_by_hand():
    bins = confidence_bins(
        np.array([0.5, 0.52, 1.0]),
        np.array([100.0, 0.0, 100.0]),
        np.array([100.0, 100.0, 0.0]),
    )
    assert bins['count'].tolist() == [0] * 7 + [2] + [0] * 6 + [1]
    assert (bins['coarse'][7], bins['fine'][7]) == (50, 100)
    assert bins['confidence'][14] == 1
    assert np.isnan(bins['coarse'][0])
    assert (bins['lower'][14], bins['upper'][14]) == (14 / 15, 1)


@pytest.mark.parametrize(
    ('scores', 'label', 'message'),
    [
        ([0.5, 0.5], (2,), r'one label in \[0, 2\) an image, got \[2\]'),
        ([0.5, 0.5], (0, 1), r'got \[0, 1\]'),
        ([0.2, 0.3, 0.5], (0,), r'shape \(3,\), expected \(2,\)'),
        ([float('nan'), 0.5], (0,), 'not finite'),
    ],
)
def test_odd_samples_are_refused(scores, label, message):
    with pytest.raises(ValueError, match=message):
        ClassificationScore(2).measure(sample(scores, *label))


def test_missing_label_is_named():
    unlabelled = sample([0.5, 0.5], 0)
    del unlabelled.gt_label
    with pytest.raises(ValueError, match='no gt_label'):
        ClassificationScore(2).measure(unlabelled)


def swept_and_config(photo_run, **options):
    from mmscope.evaluation.loading import build_dataloader, build_model

    cfg, checkpoint = photo_run(**options)
    model = build_model(cfg, checkpoint, 'cpu')
    return model, build_dataloader(cfg), cfg, checkpoint


def gated_run(cfg, checkpoint, threshold):
    """Test with the hook at a threshold; metrics and every image."""
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    images = []

    class Note(Hook):
        def after_test_iter(self, *_, outputs=None, **__):
            images.extend(
                {'img_path': s.img_path, 'pred': int(s.pred_label)}
                for s in outputs
            )

    cfg = cfg.copy()
    (gate,) = cfg.custom_hooks
    gate.exit_threshold = threshold
    cfg.experiment_name = f'{cfg.experiment_name}_{threshold}'
    cfg.load_from = checkpoint
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Note())
    metrics = runner.test()
    (exits,) = (
        metric
        for metric in runner.test_loop.evaluator.metrics
        if isinstance(metric, EarlyExitMetric)
    )
    for image, result in zip(images, exits.last_results, strict=True):
        assert image['img_path'] == result.img_path
        image.update(vars(result))
    return metrics, images


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('confidence', ['max_prob', 'entropy'])
def test_swept_images_are_those_of_real_gated_runs(
    photo_run, host, confidence
):
    # Where both stages say the same, a mixed-up stage could not be seen.
    for seed in range(20):
        model, loader, cfg, checkpoint = swept_and_config(
            photo_run, confidence=confidence, seed=seed, **HOSTS[host]
        )
        result = sweep(model, loader, num_quantiles=2, num_draws=2)
        swept = result.images.to_dict('records')
        if any(i['coarse_pred'] != i['fine_pred'] for i in swept):
            break
    else:
        pytest.fail('no seed gives stages that differ')
    rows = result.rows.to_dict('records')
    assert [row['exit_ratio'] for row in rows] == pytest.approx(
        [1, 2 / 3, 1 / 3, 0]
    )
    for row in rows:
        metrics, images = gated_run(cfg, checkpoint, row['threshold'])
        for image, real in zip(swept, images, strict=True):
            assert real['img_path'].endswith(image['name'])
            exited = image['confidence'] >= row['threshold']
            assert real['exited'] == exited
            stage = 'coarse' if exited else 'fine'
            assert real['pred'] == image[f'{stage}_pred']
        assert row['top1'] == pytest.approx(metrics['accuracy/top1'])
        for name in ('exit_ratio', 'mean_tokens', 'mean_cost'):
            real = metrics[f'early_exit/{name}']
            assert row[name] == pytest.approx(real, rel=1e-9), name


@pytest.mark.parametrize('convention', ['paper', 'exact'])
def test_swept_costs_are_those_of_get_flops(photo_run, convention):
    model, loader, *_ = swept_and_config(photo_run)
    costs = model_costs(model, (64, 64), convention)
    rows = sweep(
        model, loader, num_quantiles=0, num_draws=1, convention=convention
    ).rows
    assert rows['mean_cost'].tolist() == pytest.approx(
        [costs.exited / 1e9, costs.full / 1e9], rel=1e-12
    )


def test_wanted_thresholds_join_the_quantiles(photo_run):
    model, loader, *_ = swept_and_config(photo_run)
    wanted = [0.65, 0.5, 0.0]
    rows = sweep(
        model, loader, num_quantiles=0, num_draws=1, thresholds=wanted
    ).rows
    assert rows['threshold'].tolist() == [0.0, 0.5, 0.65, 2.0]
    assert rows['exited'][0] == rows['top1'][0]


@pytest.mark.parametrize('bad', ['0.5', -0.1, float('nan'), None])
def test_bad_thresholds_are_refused(photo_run, bad):
    model, loader, *_ = swept_and_config(photo_run)
    with pytest.raises(ValueError, match=r'threshold'):
        sweep(model, loader, thresholds=[bad])


def test_vim_classifier_gives_one_row(photo_run):
    model, loader, *_ = swept_and_config(
        photo_run, type='mmscope.VisionMamba', **HOSTS['plain host']
    )
    result = sweep(model, loader)
    (row,) = result.rows.to_dict('records')
    fine = model_costs(model, (64, 64)).fine
    assert row['mean_cost'] == pytest.approx(fine / 1e9, rel=1e-12)
    assert row['mean_tokens'] == 17
    assert {'top1', 'ece'} <= set(row)
    with pytest.raises(ValueError, match='VisionMamba has no early exit'):
        sweep(model, loader, thresholds=[0.5])


def test_missing_class_folder_is_noticed(photo_run, tmp_path):
    import shutil

    model, _, cfg, _ = swept_and_config(photo_run)
    shutil.rmtree(tmp_path / 'photos' / 'green')
    from mmscope.evaluation.loading import build_dataloader

    with pytest.raises(ValueError, match='2 classes, the head of the model 3'):
        sweep(model, build_dataloader(cfg))
