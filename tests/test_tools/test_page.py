"""What the page shows of an image."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

from mmscope import from_pretrained
from mmscope.cli import page


@pytest.fixture(scope='module')
def model():
    return from_pretrained('demo', device='cpu')


@pytest.fixture(scope='module')
def files(model, tmp_path_factory):
    return page.examples(model, str(tmp_path_factory.mktemp('page')))


def test_the_slider_decides_who_exits_and_what_that_costs(model, files):
    figure, gone = page.look(model, files[0], 0.0)
    assert 'exits early' in gone
    share = int(gone.rpartition(', ')[2].partition('%')[0])
    assert 10 < share < 40
    titles = [axes.get_title() for axes in figure.axes]
    assert 'refined regions' in titles
    _, stays = page.look(model, files[0], 1.01)
    assert '8 of 16 refined' in stays
    assert stays.endswith('100% of both looks')


def test_a_model_without_regions_shows_no_other_importance(model, files):
    from builders import hosts
    from mmengine.config import Config

    from mmscope.evaluation.loading import build_model

    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}]
    cfg = Config(
        {
            'default_scope': 'mmpretrain',
            'model': hosts.classifier('mmscope.CoarseToFineClassifier'),
            'test_dataloader': {'dataset': {'pipeline': pipeline}},
        }
    )
    wrapped = build_model(cfg, device='cpu')
    wrapped.cfg, wrapped.dataset_meta = cfg, {'classes': ('a', 'b', 'c')}
    figure, text = page.look(wrapped, files[0], 1.01)
    assert text.endswith('100% of both looks')
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ['image', 'token importance', 'refined regions']


def test_without_an_image_it_asks_for_one(model):
    assert page.look(model, None, 0.5) == (None, 'Choose an image.')


def test_without_gradio_the_message_says_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(page.UserError, match=r'mmscope\[page\]'):
        page.build_page(model, [])
