import pytest
import torch
import torch.nn.functional as F

from mmscope.models import MambaScope, VisionMamba
from mmscope.models.layers import mixer as mixer_file
from mmscope.models.layers import observe, token_scores
from mmscope.models.scoping import attach_gate

ARCH = {'embed_dims': 16, 'num_layers': 4}
HEAD = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 6}


def scope(seed=0, **options):
    torch.manual_seed(seed)
    defaults = {'arch': ARCH, 'img_size': 96, 'exit_head': HEAD}
    model = MambaScope(**{**defaults, **options}).eval()
    if model.exit_head is not None:
        # Spread the confidences, as training would.
        torch.nn.init.normal_(model.exit_head.fc.weight, std=0.5)
        model.exit_head.num_updates += 1
    return model


def dense(**options):
    return scope(out_type='featmap', out_indices=(1, 3), **options)


@torch.no_grad()
def run(model, imgs, threshold):
    attach_gate(model, threshold)
    return model(imgs)


@torch.no_grad()
def confidences(model, imgs):
    attach_gate(model, 2.0)
    model(imgs)
    return model.last_exit.confidence


def middle_threshold(model, imgs):
    """A threshold between two confidences, away from both."""
    values = confidences(model, imgs).sort().values
    at = len(values) // 2
    assert values[at] - values[at - 1] > 1e-4
    return float((values[at] + values[at - 1]) / 2)


def test_threshold_zero_never_calls_the_fine_stage(monkeypatch):
    model = dense()

    def fail(*_):
        raise AssertionError('fine stage was called')

    monkeypatch.setattr(model, 'forward_fine', fail)
    maps = run(model, torch.randn(3, 3, 96, 96), 0)
    assert model.last_exit.exited.all()
    assert not model.last_exit.refined.any()
    assert [tuple(m.shape) for m in maps] == [(3, 16, 6, 6)] * 2


def test_a_coarse_exit_repeats_each_region_over_its_fine_cells():
    maps = run(dense(), torch.randn(1, 3, 96, 96), 0)
    for level in maps:
        assert torch.equal(level[..., ::2, ::2], level[..., 1::2, 1::2])


@pytest.mark.parametrize('build', [scope, dense])
def test_a_threshold_above_one_equals_no_gate_bit_for_bit(build):
    imgs = torch.randn(4, 3, 96, 96)
    model = build()
    with torch.no_grad():
        ungated = model(imgs)
    for gated, free in zip(run(model, imgs, 1.5), ungated, strict=True):
        assert torch.equal(gated, free)
    assert not model.last_exit.exited.any()


@pytest.mark.parametrize('build', [scope, dense])
def test_a_split_batch_equals_the_images_one_by_one(build):
    torch.manual_seed(1)
    imgs = torch.randn(6, 3, 96, 96)
    model = build()
    threshold = middle_threshold(model, imgs)
    together = run(model, imgs, threshold)
    exited = model.last_exit.exited
    assert 0 < exited.sum() < len(imgs)
    order = torch.randperm(len(imgs))
    shuffled = run(model, imgs[order], threshold)
    for i, image in enumerate(imgs):
        alone = run(model, image[None], threshold)
        assert model.last_exit.exited.item() == exited[i].item()
        for level, whole, mixed in zip(alone, together, shuffled, strict=True):
            assert torch.allclose(level[0], whole[i], atol=1e-5)
            place = (order == i).nonzero().item()
            assert torch.allclose(level[0], mixed[place], atol=1e-5)


def test_exits_and_refined_images_get_their_own_results():
    torch.manual_seed(1)
    imgs = torch.randn(6, 3, 96, 96)
    model = dense()
    threshold = middle_threshold(model, imgs)
    coarse, fine = run(model, imgs, 0)[1], run(model, imgs, 2)[1]
    mixed = run(model, imgs, threshold)[1]
    for i, exited in enumerate(model.last_exit.exited):
        assert torch.allclose(
            mixed[i], coarse[i] if exited else fine[i], atol=1e-5
        )
        assert not torch.allclose(coarse[i], fine[i], atol=1e-3)


@pytest.mark.parametrize('size', [(96, 96), (64, 128), (70, 50), (33, 97)])
@pytest.mark.parametrize('threshold', [0, 2])
def test_any_size_works_in_both_stages(size, threshold):
    maps = run(dense(), torch.randn(2, 3, *size), threshold)
    cells = tuple(-(-side // 16) for side in size)
    assert all(m.shape == (2, 16, *cells) for m in maps)
    assert all(m.isfinite().all() for m in maps)


def test_the_record_says_what_was_refined():
    model = dense(refine_ratio=0.5)
    run(model, torch.randn(2, 3, 96, 64), 2)
    record = model.last_exit
    assert record.grid == (3, 2)
    assert record.coarse_tokens == 7
    assert record.fine_tokens == 4 * 3 + 3 + 1
    assert record.refined.sum((1, 2)).tolist() == [3, 3]
    # The refined regions are the most important ones.
    least = record.importance.masked_fill(~record.refined, torch.inf)
    most = record.importance.masked_fill(record.refined, -torch.inf)
    assert (least.amin((1, 2)) >= most.amax((1, 2))).all()


def test_a_record_has_the_lengths_of_both_stages():
    model = scope(refine_ratio=0.5)
    with observe(model) as records:
        run(model, torch.randn(2, 3, 96, 96), 2)
        run(model, torch.randn(2, 3, 96, 96), 0)
    refined, exited = records
    # 3 x 3 regions; 5 of them refined.
    assert refined.lengths == exited.lengths == 4 * [10]
    assert refined.fine_lengths == 4 * [4 * 5 + 4 + 1]
    assert refined.fine_lengths[0] == refined.fine_tokens
    assert exited.fine_lengths == []


@pytest.mark.parametrize('out_type', ['cls_token', 'featmap'])
def test_full_refinement_without_reuse_is_the_vim_with_the_same_weights(
    out_type,
):
    torch.manual_seed(0)
    options = {'arch': ARCH, 'img_size': 96, 'out_type': out_type}
    vim = VisionMamba(**options).eval()
    model = MambaScope(**options, refine_ratio=1.0, feature_reuse='none')
    model.load_state_dict(vim.state_dict(), strict=False)
    imgs = torch.randn(2, 3, 96, 64)
    for ours, theirs in zip(
        run(model.eval(), imgs, None), vim(imgs), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_coarse_stage_is_vim_on_the_halved_image():
    torch.manual_seed(0)
    model = scope(img_size=96)
    vim = VisionMamba(arch=ARCH, img_size=48).eval()
    weights = {
        k: v for k, v in model.state_dict().items() if k in vim.state_dict()
    }
    weights['pos_embed'] = model.coarse_pos_embed
    vim.load_state_dict(weights)
    imgs = torch.randn(2, 3, 96, 96)
    (cls,) = run(model, imgs, 0)
    assert torch.allclose(cls, vim(F.avg_pool2d(imgs, 2))[0], atol=1e-5)


def test_importance_is_the_running_mean_over_the_scored_blocks(monkeypatch):
    model = scope(score_layers=(1, 3), score_momentum=0.5, score_metric='clip')
    seen = []

    def note(metric, y_f, y_b, z):
        assert metric == 'clip'
        both = [token_scores(y, metric) for y in (y_f, y_b)]
        seen.append(sum(both) / 2)
        return seen[-1]

    monkeypatch.setattr(mixer_file, 'direction_scores', note)
    run(model, torch.randn(1, 3, 96, 96), 0)
    first, second = seen
    mean = 0.5 * (0.5 * first) + 0.5 * second
    # 3 x 3 regions with cls in the middle, at index 4.
    expected = torch.cat([mean[:, :4], mean[:, 5:]], 1)
    actual = model.last_exit.importance.flatten(1)
    assert torch.allclose(actual, expected)


def test_scored_blocks_default_to_every_second_of_the_later_half():
    with torch.device('meta'):
        assert MambaScope(arch='tiny').score_layers == tuple(range(12, 24, 2))


@pytest.mark.parametrize('selection', [False, True])
@pytest.mark.parametrize('reuse', ['mlp', 'linear', 'mlp_with_cls', 'none'])
def test_gradients_reach_every_parameter_in_both_phases(selection, reuse):
    model = dense(feature_reuse=reuse).train()
    model.selection = selection
    with observe(model) as records:
        maps = model(torch.randn(2, 3, 96, 96))
    (outputs,) = records
    targets = torch.randint(0, 2, (2, 6)).float()
    losses = model.exit_head.loss(
        outputs.coarse_cls, outputs.fine_cls, targets
    )
    coarse = sum(m.square().mean() for m in outputs.coarse_maps)
    total = sum(m.square().mean() for m in maps) + coarse
    (total + sum(losses.values())).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert missing == []


def test_frozen_embeddings_include_the_coarse_positions():
    frozen, free = scope(frozen_stages=0), scope()
    assert not frozen.coarse_pos_embed.requires_grad
    assert free.coarse_pos_embed.requires_grad


def test_training_returns_the_fine_stage_last():
    model = scope().train()
    model.selection = False
    with observe(model) as records:
        coarse, fine = model(torch.randn(2, 3, 96, 96))
    assert torch.equal(coarse, records[0].coarse_cls)
    assert torch.equal(fine, records[0].fine_cls)
    assert not torch.allclose(coarse, fine, atol=1e-4)


def test_training_never_exits():
    model = dense().train()
    attach_gate(model, 0.0)
    with observe(model) as records:
        maps = model(torch.randn(2, 3, 96, 96))
    fine, coarse = maps[1], records[0].coarse_maps[1]
    assert not torch.allclose(fine, coarse)
    assert model.last_exit is None


def test_without_selection_all_regions_are_refined():
    model = dense(refine_ratio=0.3)
    model.selection = False
    run(model, torch.randn(1, 3, 96, 96), 2)
    assert model.last_exit.refined.all()
    assert model.last_exit.fine_tokens == 4 * 9 + 1


@pytest.mark.parametrize(
    'options',
    [
        {'cls_position': 'ahead'},
        {'cls_position': 'behind'},
        {'token_order': 'last'},
        {'feature_reuse': 'linear'},
        {'feature_reuse': 'mlp_with_cls'},
        {'feature_reuse': 'none'},
        {'unselected_tokens': 'feature'},
        {'score_metric': 'l2_norm'},
        {'score_momentum': 0.0, 'score_layers': (0,)},
    ],
)
def test_every_ablation_changes_the_fine_result(options):
    imgs = torch.randn(1, 3, 96, 96)
    base, other = dense(refine_ratio=0.4), dense(refine_ratio=0.4, **options)
    weights = {
        k: v
        for k, v in base.state_dict().items()
        if k in other.state_dict() and v.shape == other.state_dict()[k].shape
    }
    other.load_state_dict(weights, strict=False)
    ours, theirs = run(other, imgs, 2)[1], run(base, imgs, 2)[1]
    assert ours.isfinite().all()
    assert not torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize('ratio', [0.0, 1.0])
def test_both_ends_of_the_refine_ratio_work(ratio):
    maps = run(dense(refine_ratio=ratio), torch.randn(2, 3, 96, 64), 2)
    assert all(m.isfinite().all() for m in maps)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'refine_ratio': 1.2}, 'refine_ratio must lie in'),
        ({'score_momentum': 1.0}, 'score_momentum must lie in'),
        ({'score_momentum': '0.9'}, "score_momentum must .* got '0.9'"),
        ({'score_metric': 'max'}, 'score_metric must be one of'),
        ({'score_layers': (9,)}, 'score_layers must be ascending'),
        ({'score_layers': '12'}, 'score_layers must be'),
        ({'refine_ratio': True}, 'refine_ratio must lie in'),
        ({'cls_position': 'end'}, 'cls_position must be one of'),
        ({'token_order': 'random'}, 'token_order must be one of'),
        ({'feature_reuse': 'cnn'}, 'feature_reuse must be one of'),
        ({'unselected_tokens': 'x'}, 'unselected_tokens must be one of'),
        ({'exit_threshold': '0.8'}, 'exit_threshold must be None or'),
        ({'exit_threshold': -1}, 'exit_threshold must be None or'),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MambaScope(arch=ARCH, **options)


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('score_momentum', 1.0, 'score_momentum must lie in'),
        ('score_layers', (12, 14), 'score_layers must be'),
        ('score_layers', '[12', 'score_layers must be'),
        ('cls_position', 'end', 'cls_position must be one of'),
        ('token_order', 'wovn', 'token_order must be one of'),
        ('feature_reuse', 'cnn', 'feature_reuse must be one of'),
        ('feature_reuse', 'linear', "reuse='mlp', was not built with"),
        ('unselected_tokens', 'embeding', 'unselected_tokens must be one'),
        ('selection', 'off', "selection must be True or False, got 'off'"),
        ('gate', 'sure', "gate must be None or a Gate, got 'sure'"),
    ],
)
def test_what_is_set_later_is_checked_like_an_argument(name, value, message):
    model = scope()
    before = getattr(model, name)
    with pytest.raises(ValueError, match=message):
        setattr(model, name, value)
    assert getattr(model, name) == before


@pytest.mark.parametrize(
    ('built', 'wanted', 'allowed'),
    [
        ('mlp', 'mlp_with_cls', True),
        ('mlp_with_cls', 'none', True),
        ('linear', 'linear', True),
        ('linear', 'mlp', False),
        ('none', 'mlp', False),
        ('none', 'linear', False),
    ],
)
def test_a_reuse_needs_the_module_that_was_built(built, wanted, allowed):
    model, imgs = dense(feature_reuse=built), torch.randn(1, 3, 96, 96)
    if not allowed:
        with pytest.raises(ValueError, match='was not built with'):
            model.feature_reuse = wanted
        return
    model.feature_reuse = wanted
    other = dense(feature_reuse=wanted)
    other.load_state_dict(model.state_dict(), strict=False)
    ours, theirs = run(model, imgs, 2)[1], run(other, imgs, 2)[1]
    assert torch.equal(ours, theirs)


def test_what_is_set_later_is_as_if_it_was_built_so():
    wanted = {
        'score_layers': [-1],
        'cls_position': 'ahead',
        'token_order': 'woven',
        'unselected_tokens': 'feature',
        'score_momentum': 0.5,
    }
    model, built = dense(refine_ratio=0.4), dense(refine_ratio=0.4, **wanted)
    for name, value in wanted.items():
        setattr(model, name, value)
    assert model.score_layers == built.score_layers == (3,)
    imgs = torch.randn(1, 3, 96, 96)
    assert torch.equal(run(model, imgs, 2)[1], run(built, imgs, 2)[1])
    model.cls_position = model.score_layers = None
    assert (model.cls_position, model.score_layers) == ('middle', (2,))
