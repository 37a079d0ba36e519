"""Timed runs are real gated runs."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmscope.evaluation import measure_throughput
from mmscope.evaluation.throughput import representative_images


@pytest.fixture
def data(make_loader):
    """Make a loader's data set of random images, and its batch size."""

    def make(number, batch_size=1):
        batches = make_loader(number, batch_size=1, size=(64, 64))
        items = [{k: v[0] for k, v in batch.items()} for batch in batches]
        return SimpleNamespace(dataset=items, batch_size=batch_size)

    return make


def test_speed_at_each_threshold_and_batch_size(build_segmentor, data):
    found = measure_throughput(
        build_segmentor(), data(7, 2), [0.0, 2.0], range(5), repeats=2
    )
    assert found['batch_size'].tolist() == [1, 1, 2, 2]
    assert found['threshold'].tolist() == [0, 2, 0, 2]
    assert found['exit_ratio'].tolist() == [1, 0, 1, 0]
    assert found['num_images'].tolist() == 4 * [5]
    speeds = found[['slowest', 'images_per_s', 'fastest']].to_numpy()
    assert (np.diff(speeds) >= 0).all()


def test_a_batch_is_no_larger_than_the_images_there_are(build_segmentor, data):
    found = measure_throughput(
        build_segmentor(), data(3), [2.0], [0, 2], [1, 64, 256], repeats=1
    )
    assert found['batch_size'].tolist() == [1, 2]


def test_exits_of_the_timed_runs_follow_the_threshold(
    build_segmentor, make_loader
):
    from mmscope.evaluation import sweep

    model, batches = build_segmentor(), make_loader(6, batch_size=1)
    middle = sweep(model, batches, num_quantiles=1).rows.iloc[1]
    items = [{k: v[0] for k, v in batch.items()} for batch in batches]
    found = measure_throughput(
        model,
        SimpleNamespace(dataset=items),
        [middle['threshold']],
        range(6),
        [4],
        repeats=1,
    )
    assert found['exit_ratio'].tolist() == [middle['exit_ratio']] == [0.5]


def test_only_the_chosen_images_are_run(build_segmentor, data):
    loader = data(4)
    for unwanted in (1, 3):
        loader.dataset[unwanted] = None
    found = measure_throughput(
        build_segmentor(), loader, [0.0], [0, 2], repeats=1
    )
    assert found['num_images'].tolist() == [2]


def test_who_exited_is_read_as_from_a_gpu(build_segmentor, data, monkeypatch):
    def array(self, *args):
        raise TypeError('numpy cannot read the memory of a GPU')

    loader = data(2)
    monkeypatch.setattr(torch.Tensor, '__array__', array)
    found = measure_throughput(
        build_segmentor(), loader, [0.0], [0, 1], repeats=1
    )
    assert found['exit_ratio'].tolist() == [1]


def test_model_without_a_gate_runs_as_it_is(build_segmentor, data):
    model = build_segmentor('mmscope.VisionMamba')
    found = measure_throughput(model, data(2), [None], [0, 1], repeats=1)
    assert found['threshold'].isna().tolist() == [True]
    assert found['exit_ratio'].isna().tolist() == [True]
    with pytest.raises(ValueError, match='no early exit'):
        measure_throughput(model, data(2), [0.5], [0, 1])


def test_no_image_is_an_error(build_segmentor, data):
    with pytest.raises(ValueError, match='no image'):
        measure_throughput(build_segmentor(), data(0), [None], [])


def test_representative_images_exit_like_the_whole_set():
    # A video: confidence rises from frame to frame.
    confidence = [index / 100 for index in range(100)]
    chosen = representative_images(confidence, 100, 10)
    assert chosen == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]
    shuffled = random.Random(0).sample(confidence, 100)
    chosen = representative_images(shuffled, 100, 10)
    assert sorted(shuffled[i] for i in chosen) == pytest.approx(
        [0.05 + 0.1 * i for i in range(10)]
    )
    assert representative_images(None, 3, 8) == [0, 1, 2]
