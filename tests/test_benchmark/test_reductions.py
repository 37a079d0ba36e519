"""Token reductions are timed at their settings, as much as their MACs say."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmscope.benchmark.gpu.scale import TINY_DEIT
from mmscope.benchmark.grid_report import reductions_section
from mmscope.benchmark.grid_rows import (
    Grid,
    GridRow,
    Skipped,
    add_predictions,
)
from mmscope.benchmark.models import REDUCED, VIM
from mmscope.benchmark.reductions import (
    DYVM,
    HIDDEN_ALIGN,
    R_MEETO,
    REDUCTIONS,
    SETTINGS,
    build_reduced,
    draw_block_policy,
    reduced_run,
)
from mmscope.benchmark.subjects import make_subjects
from mmscope.models import observe
from mmscope.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs' / 'imagenet'
SHORT = {'tiny': 'ti', 'small': 's', 'base': 'b'}
FILES = {R_MEETO: 'r_meeto', HIDDEN_ALIGN: 'ha', DYVM: 'dyvm'}
TINY = dict(embed_dims=16, num_layers=6)
SMALL = {
    R_MEETO: dict(type='mmscope.RMeeTo', merge_tokens=3),
    HIDDEN_ALIGN: dict(type='mmscope.HiddenAlign', prune_layers=(2, 4)),
    DYVM: dict(type='mmscope.DyVM', prune_layers=(2, 4)),
}


def small(name):
    torch.manual_seed(0)
    return build_reduced(TINY, 64, SMALL[name]).eval()


@pytest.mark.parametrize('arch', SETTINGS)
def test_settings_are_those_of_the_imagenet_configs(arch):
    for name, prefix in FILES.items():
        path = CONFIGS / f'{prefix}_{SHORT[arch]}.py'
        assert path.exists() == (name in SETTINGS[arch])
        if not path.exists():
            continue
        cfg = Config.fromfile(path).model.backbone
        expected = MODELS.build(cfg.reduction)
        found = MODELS.build(SETTINGS[arch][name])
        assert cfg.arch == arch
        assert type(found) is type(expected)
        assert vars(found) == vars(expected)


def test_who_has_no_published_setting_is_named():
    field = make_subjects(
        TINY, 64, exit_ratios=(), deit_arch=TINY_DEIT, reductions={}
    )
    assert set(REDUCTIONS) <= set(field.absent)
    field = make_subjects(TINY, 64, exit_ratios=(), deit_arch=TINY_DEIT)
    assert not set(REDUCTIONS) & set(field.absent)


def test_each_image_runs_the_share_of_directions_in_blocks_of_its_own():
    backbone = small(DYVM).backbone
    blocks = draw_block_policy(backbone, 8)
    assert blocks.shape == (6, 8, 2)
    # 0.8 of 12 is 9.6.
    assert blocks.sum((0, 2)).tolist() == [10] * 8
    assert (blocks == draw_block_policy(backbone, 8)).all()
    assert (blocks[:, 0] != blocks[:, 1]).any()


def test_a_dyvm_runs_what_its_macs_count():
    model = small(DYVM)
    assert model.backbone.reduction.block_keep_ratio == pytest.approx(10 / 12)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad(), observe(model) as records:
        reduced_run(model, 2, lambda: model(images))()
        model(images)
    forced, own = (torch.stack(r.directions) for r in records)
    assert (forced == draw_block_policy(model.backbone, 2)).all()
    # Its own untrained heads decide otherwise, and do so again afterwards.
    assert own.sum() != forced.sum()
    assert records[0].lengths == model.backbone.reduction.lengths(
        model.backbone, 16
    )


def test_the_others_are_left_alone():
    model = small(HIDDEN_ALIGN)

    def forward():
        raise AssertionError

    assert reduced_run(model, 1, forward) is forward


def test_the_line_up_has_them_with_fewer_macs_than_vim():
    field = make_subjects(
        TINY, 64, exit_ratios=(), deit_arch=TINY_DEIT, reductions=SMALL
    )
    found = {c.name: c for c in field.subjects}
    for name in REDUCTIONS:
        assert found[name].kind == REDUCED
        assert 0 < found[name].macs < found[VIM].macs
        found[name].make(2)()


CELL = {'arch': 'small', 'resolution': 224, 'batch': 8}


def measured(name, kind, speed, gmacs):
    return GridRow(
        **CELL,
        subject=name,
        kind=kind,
        model=name,
        images_per_s=speed,
        images_per_s_iqr=(speed - 1, speed + 1),
        gmacs=gmacs,
    )


def test_the_share_of_the_promised_saving_is_told():
    rows = [
        measured('ViM', VIM, 100.0, 4.0),
        measured(R_MEETO, REDUCED, 125.0, 3.0),
    ]
    add_predictions(rows)
    # 10 ms became 8 ms; 25 % were promised.
    assert rows[1].saving_promised == pytest.approx(0.25)
    assert rows[1].share_won == pytest.approx(0.8)
    skipped = [Skipped(**CELL, subject=DYVM, reason='over the time')]
    text = reductions_section(Grid(rows, skipped, {'commit': 'abc'}))
    lines = [
        [cell.strip() for cell in line.split('|')[2:-1]]
        for line in text.splitlines()
        if line.startswith('| small')
    ]
    assert lines == [
        ['ViM', '100.0 (99.0 to 101.0)', '1.00', '4.000', '-', '-', '-'],
        [
            *(R_MEETO, '125.0 (124.0 to 126.0)', '1.25', '3.000'),
            *('25.0', '20.0', '80'),
        ],
    ]
    assert 'DyVM, small, 224 px, batch 8: over the time' in text
    assert 'commit: abc' in text
