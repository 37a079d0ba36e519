"""One pass over the data, several settings of the same weights."""

import json

import numpy as np
import pytest

from mmscope.evaluation import SegmentationScore, score_endpoints
from mmscope.evaluation.exit_endpoints import score_variants
from mmscope.evaluation.variants import (
    Variant,
    check_variants,
    combinations,
)


def test_what_varies_is_combined_each_with_each():
    found = combinations(['score_metric=detail,random', 'refine_ratio=0.5,1'])
    assert [variant.settings for variant in found] == [
        {'score_metric': 'detail', 'refine_ratio': 0.5},
        {'score_metric': 'detail', 'refine_ratio': 1},
        {'score_metric': 'random', 'refine_ratio': 0.5},
        {'score_metric': 'random', 'refine_ratio': 1},
    ]
    assert found[0].name == 'score_metric=detail, refine_ratio=0.5'
    (layers,) = combinations(['score_layers=[12,14]'])
    assert layers.settings == {'score_layers': [12, 14]}
    assert combinations([]) == []


@pytest.mark.parametrize('entry', ['', 'detail', '=1', 'a=', 'a=1,,2'])
def test_what_is_no_key_with_values_is_refused(entry):
    with pytest.raises(ValueError, match='KEY=VALUE,VALUE'):
        combinations([entry])
    with pytest.raises(ValueError, match='a varies twice'):
        combinations(['a=1', 'a=2'])


class Batches:
    """Counts how often the data is read."""

    def __init__(self, loader):
        self.loader, self.passes = loader, 0
        self.dataset = loader.dataset

    def __iter__(self):
        self.passes += 1
        return iter(self.loader)


def test_each_variant_is_what_a_model_built_so_gives(
    build_segmentor, make_loader
):
    variants = combinations(
        ['score_metric=max_norm,detail', 'refine_ratio=0.3,0.6']
    )
    model, score = build_segmentor(), SegmentationScore(4)
    loader = Batches(make_loader(4))
    together = score_variants(model, loader, score, variants)
    assert loader.passes == 1
    for variant, images in zip(variants, together, strict=True):
        alone = build_segmentor(**variant.settings)
        expected = score_endpoints(alone, make_loader(4), score)
        for name in ('coarse', 'fine'):
            one, other = (getattr(e.scored, name) for e in (images, expected))
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(
            images.table['full_macs'], expected.table['full_macs']
        )
        np.testing.assert_array_equal(images.confidence, expected.confidence)
    assert (together[0].scored.fine != together[1].scored.fine).any()
    assert (
        together[0].table['full_macs'] < together[1].table['full_macs']
    ).all()


def test_the_model_is_left_as_it_was_also_after_an_error(build_segmentor):
    backbone = build_segmentor(refine_ratio=0.4).backbone
    wanted = Variant({'refine_ratio': 0.9, 'score_metric': 'sharpness'})
    with pytest.raises(ValueError, match="got 'sharpness'"):
        with wanted.applied(backbone_host(backbone)):
            pass
    assert backbone.refine_ratio == 0.4
    assert backbone.score_metric == 'max_norm'


@pytest.mark.parametrize(
    ('own', 'wanted'),
    [
        ({'refine_ratio': 0.4}, {'refine_coverage': 0.9}),
        ({'refine_coverage': 0.9}, {'refine_ratio': 0.4}),
        (
            {'refine_coverage': 0.9},
            {'refine_coverage': None, 'refine_ratio': 0.4},
        ),
        (
            {'refine_coverage': 0.9},
            {'refine_ratio': 0.4, 'score_metric': 'max_norm'},
        ),
        (
            {'refine_coverage': 0.9},
            {'score_metric': 'max_norm', 'refine_ratio': 0.4},
        ),
    ],
)
def test_a_setting_that_replaces_another_one_gives_it_back(
    own, wanted, build_segmentor
):
    backbone = build_segmentor(score_metric='detail', **own).backbone
    names = 'score_metric', 'refine_coverage', 'refine_ratio'
    before = [getattr(backbone, name) for name in names]
    with Variant(wanted).applied(backbone_host(backbone)):
        for name, value in wanted.items():
            assert getattr(backbone, name) == value
        assert (backbone.refine_ratio is None) == backbone.by_coverage
    assert [getattr(backbone, name) for name in names] == before


def backbone_host(backbone):
    from torch import nn

    host = nn.Module()
    host.backbone = backbone
    return host


@pytest.mark.parametrize(
    'key',
    [
        *('nothing', 'forward', 'reduction.keep_ratio'),
        # Set when the model is built, and checked there alone.
        *('patch_size', 'out_type', 'fine_summary'),
    ],
)
def test_a_setting_that_is_none_is_refused(key, build_segmentor):
    model = build_segmentor()
    with pytest.raises(ValueError, match=f'no setting {key!r} to vary'):
        with Variant({key: 1}).applied(model):
            pass


def test_coverage_counts_each_image_in_the_sweep(build_segmentor, make_loader):
    settings = {
        'score_metric': 'detail',
        'refine_coverage': 0.9,
        'refine_ratio': None,
    }
    (images,) = score_variants(
        build_segmentor(),
        make_loader(6),
        SegmentationScore(4),
        [Variant(settings)],
    )
    assert len(images.table['full_macs']) == 6
    model = build_segmentor(**settings)
    expected = score_endpoints(model, make_loader(6), SegmentationScore(4))
    np.testing.assert_array_equal(
        images.table['full_macs'], expected.table['full_macs']
    )
    np.testing.assert_array_equal(
        images.table['full_tokens'], expected.table['full_tokens']
    )


REDUCTIONS = {
    'RMeeTo': ({'merge_tokens': 3, 'merge_interval': 1}, 'merge_tokens=1,5'),
    'HiddenAlign': ({'prune_layers': (1,)}, 'keep_ratio=0.5,1.0'),
    'DyVM': ({'prune_layers': (1,)}, 'token_keep_ratio=0.5,1.0'),
}


@pytest.mark.parametrize('name', REDUCTIONS)
def test_a_reduction_is_swept_without_training(
    name, build_segmentor, make_loader
):
    settings, varied = REDUCTIONS[name]
    reduction = {'type': f'mmscope.{name}', **settings}
    variants = combinations([f'reduction.{varied}'])
    model = build_segmentor('mmscope.VisionMamba', reduction=reduction)
    score = SegmentationScore(4)
    found = score_variants(
        model, make_loader(3), score, [Variant(), *variants], 'exact'
    )
    for variant, images in zip(variants, found[1:], strict=True):
        ((key, value),) = variant.settings.items()
        other = {**reduction, key.removeprefix('reduction.'): value}
        alone = build_segmentor('mmscope.VisionMamba', reduction=other)
        expected = score_endpoints(alone, make_loader(3), score, 'exact')
        np.testing.assert_array_equal(
            images.table['full_macs'], expected.table['full_macs']
        )
        np.testing.assert_array_equal(
            images.table['full_tokens'], expected.table['full_tokens']
        )
        # The decisions are those of other random predictors.
        if name != 'DyVM':
            np.testing.assert_array_equal(
                images.scored.fine, expected.scored.fine
            )
    costs = [images.table['full_macs'].mean() for images in found]
    assert len(set(costs)) == 3
    tokens = [images.table['full_tokens'].mean() for images in found]
    assert sorted(tokens) == sorted(
        tokens, key=lambda t: costs[tokens.index(t)]
    )


def test_the_tool_reports_and_stores_variants(
    write_run, tmp_path, capsys, sweep_tool
):
    out = tmp_path / 'out'
    sweep_tool.main(
        [
            *write_run(),
            *('--device', 'cpu', '--speed-images', '0'),
            *('--num-quantiles', '1', '--out-dir', str(out)),
            *('--vary', 'score_metric=detail,random'),
            *('--choose-on', 'test', '--max-drop', '1'),
        ]
    )
    printed = capsys.readouterr().out
    assert '| weights of' in printed
    assert '| score_metric=random ' in printed
    swept = json.loads((out / 'sweep.json').read_text())
    stored = swept['variants']
    assert [entry['settings'] for entry in stored] == [
        'score_metric=detail',
        'score_metric=random',
    ]
    own = json.loads((out / 'variants/score_metric=detail.json').read_text())
    assert own['rows'] == stored[0]['rows']
    assert own['meta']['name'] == 'score_metric=detail'
    # It was chosen for the model as it is.
    assert swept['meta']['chosen']['target'] == 'max_drop'
    assert 'chosen' not in own['meta']


@pytest.mark.parametrize(
    ('varied', 'message'),
    [
        ('token_order=wovn', "got 'wovn'"),
        ('unselected_tokens=embeding', "got 'embeding'"),
        ('feature_reuse=linear', 'was not built with'),
        ('cls_position=end', "got 'end'"),
        ('score_layers=[12,14]', r'inside \[-2, 2\).* got \(12, 14\)'),
        ('score_momentum=[1]', r'got \[1\]'),
        ('refine_ratio={}', 'got {}'),
        ('refine_ratio=.5,1.5', r'^refine_ratio=1.5 does not go: .* got 1.5'),
    ],
)
def test_wrong_values_are_refused_before_any_data_is_read(
    varied, message, build_segmentor, make_loader
):
    loader = Batches(make_loader(1))
    variants = combinations([varied])
    with pytest.raises(ValueError, match=message):
        score_variants(
            build_segmentor(), loader, SegmentationScore(4), variants
        )
    assert loader.passes == 0


@pytest.mark.parametrize(
    ('varied', 'message'),
    [
        (['refine_ratio=0.5', 'refine_coverage=0.9'], 'both say how many'),
        (['refine_coverage=0.9', 'refine_ratio=0.5'], 'both say how many'),
        (['selection=false', 'refine_ratio=0.5'], 'refine_ratio would decide'),
        (['selection=false', 'score_metric=random'], 'score_metric would'),
        (['selection=false', 'token_order=woven'], 'off by selection=false'),
        (['exit_threshold=0.5'], 'tries every threshold'),
        # The score is the image's own.
        (['score_layers=[1]'], '^score_layers would decide nothing'),
        (['score_momentum=0.5', 'refine_ratio=0.5'], '^score_momentum would'),
        (['refine_ratio=1', 'token_order=first,woven'], '^token_order would'),
        (['refine_ratio=0', 'score_metric=max_norm'], '^score_metric would'),
    ],
)
def test_a_setting_that_would_decide_nothing_is_refused(
    varied, message, build_segmentor
):
    model = build_segmentor(score_metric='detail')
    with pytest.raises(ValueError, match=message):
        check_variants(model, combinations(varied))
    assert model.backbone.selection


def test_a_score_that_knows_no_lost_energy_is_swept_apart(build_segmentor):
    model = build_segmentor(score_metric='detail')
    varied = ['refine_coverage=.5,.9', 'score_metric=detail,max_norm']
    told = (
        '^refine_coverage=0.5, score_metric=max_norm does not go: .* knows no '
        'lost energy.* a sweep of its own'
    )
    with pytest.raises(ValueError, match=told):
        check_variants(model, combinations(varied))
    check_variants(model, combinations(varied[:1]))


def test_both_ends_of_a_ratio_may_vary_with_others(build_segmentor):
    model = build_segmentor(score_metric='detail')
    varied = ['score_metric=detail,max_norm', 'refine_ratio=0,0.5,1']
    check_variants(model, combinations(varied))
    varied = ['score_metric=detail,max_norm', 'score_momentum=0.5']
    check_variants(model, combinations(varied))


def test_weights_without_selection_may_vary_it(build_segmentor):
    model = build_segmentor()
    model.backbone.selection = False
    with pytest.raises(ValueError, match='Vary selection=true as well'):
        check_variants(model, combinations(['refine_ratio=0.5']))
    check_variants(model, combinations(['selection=true', 'refine_ratio=0.5']))
    assert model.backbone.selection is False
