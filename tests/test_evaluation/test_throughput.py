"""Timed runs are real gated runs."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmscope.evaluation import measure_throughput
from mmscope.evaluation.throughput import representative_images


def test_speed_at_each_threshold_and_batch_size(build_segmentor, make_loader):
    found = measure_throughput(
        build_segmentor(),
        make_loader(7, batch_size=2, size=(64, 64)),
        thresholds=[0.0, 2.0],
        max_images=5,
        warm_up=1,
        repeats=2,
    )
    assert found['batch_size'].tolist() == [1, 1, 2, 2]
    assert found['threshold'].tolist() == [0, 2, 0, 2]
    assert found['exit_ratio'].tolist() == [1, 0, 1, 0]
    assert found['num_images'].tolist() == 4 * [5]
    speeds = found[['slowest', 'images_per_s', 'fastest']].to_numpy()
    assert (np.diff(speeds) >= 0).all()


def test_a_batch_is_no_larger_than_the_images_there_are(
    build_segmentor, make_loader
):
    found = measure_throughput(
        build_segmentor(),
        make_loader(6, batch_size=6, size=(64, 64)),
        thresholds=[2.0],
        batch_sizes=[1, 64, 256],
        max_images=2,
        repeats=1,
    )
    assert found['batch_size'].tolist() == [1, 2]


def test_exits_of_the_timed_runs_follow_the_threshold(
    build_segmentor, make_loader
):
    from mmscope.evaluation import sweep

    model, loader = build_segmentor(), make_loader(6)
    middle = sweep(model, loader, num_quantiles=1).rows.iloc[1]
    found = measure_throughput(
        model, loader, [middle['threshold']], [4], warm_up=0, repeats=1
    )
    assert found['exit_ratio'].tolist() == [middle['exit_ratio']] == [0.5]


def test_who_exited_is_read_as_from_a_gpu(
    build_segmentor, make_loader, monkeypatch
):
    def array(self, *args):
        raise TypeError('numpy cannot read the memory of a GPU')

    monkeypatch.setattr(torch.Tensor, '__array__', array)
    found = measure_throughput(
        build_segmentor(), make_loader(2), [0.0], [1], warm_up=0, repeats=1
    )
    assert found['exit_ratio'].tolist() == [1]


def test_model_without_a_gate_runs_as_it_is(build_segmentor, make_loader):
    model = build_segmentor('mmscope.VisionMamba')
    found = measure_throughput(
        model, make_loader(2, batch_size=1), [None], warm_up=0, repeats=1
    )
    assert found['threshold'].isna().tolist() == [True]
    assert found['exit_ratio'].isna().tolist() == [True]
    with pytest.raises(ValueError, match='no early exit'):
        measure_throughput(model, make_loader(2), [0.5])


def test_no_image_is_an_error(build_segmentor, make_loader):
    with pytest.raises(ValueError, match='no image'):
        measure_throughput(build_segmentor(), make_loader(0), [None])


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


def test_chosen_images_are_timed(build_segmentor, make_loader):
    batches = make_loader(4, batch_size=1)
    items = [{k: v[0] for k, v in batch.items()} for batch in batches]
    loader = SimpleNamespace(dataset=items, batch_size=2)
    found = measure_throughput(
        build_segmentor(), loader, [0.0], repeats=1, indices=[0, 2, 3]
    )
    assert found['batch_size'].tolist() == [1, 2]
    assert found['num_images'].tolist() == [3, 3]
