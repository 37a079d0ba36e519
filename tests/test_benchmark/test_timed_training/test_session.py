from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

from mmscope.benchmark.files import write_json
from mmscope.benchmark.timed_training import session as sessions
from mmscope.benchmark.timed_training.images import read_splits
from mmscope.benchmark.timed_training.learner import Learner, _mode
from mmscope.benchmark.timed_training.session import (
    Session,
    selection_begins,
)
from mmscope.benchmark.timed_training.state import State, open_state
from mmscope.errors import UserError
from mmscope.evaluation import SweepResult
from mmscope.evaluation.loading import open_config

CONFIGS = Path(__file__).parents[3] / 'configs' / 'cifar10'
SHRUNK = {
    'model.backbone.arch.embed_dims': 16,
    'model.backbone.arch.num_layers': 2,
    'model.head.in_channels': 16,
    'model.head.num_classes': 2,
    'model.data_preprocessor.num_classes': 2,
}
SETTING = dict(device='cpu', source='abc', torch='2', dry_run=True)


@pytest.fixture
def splits(photos):
    return read_splits(photos)


def learner(name, splits, batch=4):
    cfg = open_config(str(CONFIGS / f'{name}_mini.py'), SHRUNK)
    return Learner(name, cfg, splits['train'], batch)


@pytest.fixture
def both(splits):
    return [learner(name, splits) for name in ('vim', 'mambascope')]


@pytest.fixture
def quick(monkeypatch):
    """Two chunks of a step each; a probe that is over at once."""
    monkeypatch.setattr(sessions, 'CHUNKS', 2)
    monkeypatch.setattr(
        Session, '_steps_that_fit', lambda self, done, *_, **__: max(done, 2)
    )
    monkeypatch.setattr(Session, '_step_seconds', lambda *args: 0.01)


def start(learners, splits, path, seconds=600.0):
    state = open_state(path, SETTING, 4, 1.0)
    deadline = time.monotonic() + seconds
    return Session(learners, splits, state, path, deadline)


def test_models_learn_in_turns_and_everything_is_written(
    both, splits, tmp_path, quick
):
    path = tmp_path / 'new' / 'runs.json'
    path.parent.mkdir()
    start(both, splits, path).run()
    found = json.loads(path.read_text())
    assert found['total'] == 2
    for name, run in found['runs'].items():
        assert [point['step'] for point in run['curve']] == [1, 2]
        assert {'test', 'val'} == set(run['sweeps'])
        sweep = SweepResult.read(path.with_name(f'runs-{name}-test.json'))
        assert len(sweep.images) == 4
        weights = torch.load(
            path.with_name(f'runs-{name}.pth'), weights_only=True
        )
        assert weights['steps_done'] == 2
        assert 'backbone.cls_token' in weights['state_dict']
    assert len(found['runs']['mambascope']['sweeps']['test']) > 1


def test_an_interrupted_session_goes_on(both, splits, tmp_path, quick):
    path = tmp_path / 'runs.json'
    first = start(both, splits, path)
    for one in both:
        first.state.runs[one.name] = sessions.Run(one.name)
    first.probe()
    first._train_chunk()
    # Another process: new models, the files alone are left.
    again = [learner(name, splits) for name in ('vim', 'mambascope')]
    state = start(again, splits, path).run()
    for one, before in zip(again, both, strict=True):
        assert one.steps_done == 2
        assert before.steps_done == 1
        assert [p.step for p in state.runs[one.name].curve] == [1, 2]


def saved(splits, path, steps=2):
    """Weights that another experiment left where ours will be."""
    other = learner('vim', splits)
    other.train(steps, steps)
    other.save(path)
    return path.read_bytes()


@pytest.mark.parametrize('again', [False, True])
def test_weights_of_another_training_are_not_gone_on_with(
    splits, tmp_path, quick, monkeypatch, again
):
    path, file = tmp_path / 'runs.json', tmp_path / 'runs-vim.pth'
    before = saved(splits, file)
    if again:
        runs = {'vim': sessions.Run('vim')}
        write_json(path, State(SETTING, 4, 1.0, 2, 1.0, runs))
    state = open_state(path, SETTING, 4, 1.0, again)
    one = learner('vim', splits)

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, '_train_chunk', killed)
        with pytest.raises(KeyboardInterrupt):
            Session([one], splits, state, path, time.monotonic() + 600).run()
    state = start([learner('vim', splits)], splits, path).run()
    assert [p.step for p in state.runs['vim'].curve] == [1, 2]
    # And not lost.
    assert (tmp_path / 'runs-vim-old.pth').read_bytes() == before


def test_a_model_that_is_added_later_begins_at_its_beginning(
    both, splits, tmp_path, quick
):
    path = tmp_path / 'runs.json'
    vim, scope = both
    saved(splits, tmp_path / 'runs-mambascope.pth')
    start([vim], splits, path).run()
    state = start(both, splits, path).run()
    assert [p.step for p in state.runs['mambascope'].curve] == [1, 2]
    assert (tmp_path / 'runs-mambascope-old.pth').is_file()


def test_weights_that_cannot_be_written_leave_those_of_before(
    splits, tmp_path, monkeypatch
):
    file = tmp_path / 'a.pth'
    before = saved(splits, file)

    def full(path, content):
        with path.open('wb') as file:
            file.write(content[:9])
        raise OSError('No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(OSError, match='No space'):
        learner('vim', splits).save(file)
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.glob('*a.pth*')] == ['a.pth']


def test_going_on_is_the_same_as_never_stopping(splits, tmp_path):
    whole, first, second = (learner('mambascope', splits) for _ in range(3))
    whole.train(4, 4)
    first.train(2, 4)
    first.save(tmp_path / 'a.pth')
    second.load(tmp_path / 'a.pth')
    second.train(2, 4)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(
            second.model.state_dict()[name], value, msg=name
        )


def test_all_models_see_the_same_images_in_the_same_order(both):
    vim, scope = both
    for step in (0, 1, 5):
        (mine, draw), (other, draw_other) = vim.order(step), scope.order(step)
        assert torch.equal(mine, other)
        assert draw.initial_seed() == draw_other.initial_seed()
    seen = torch.cat([vim.order(step)[0] for step in range(2)])
    assert len(seen.unique()) == 8


def test_selection_comes_on_at_the_fraction_of_the_config(both):
    _, scope = both
    assert selection_begins(scope) == pytest.approx(2 / 3)
    on, modes = [], []
    for _ in range(6):
        scope.train(1, 6)
        on.append(scope.model.backbone.selection)
        modes.append(_mode(scope.model))
    assert on == [False] * 4 + [True] * 2
    # What a graph records depends on it: another mode is recorded anew.
    assert modes == [(False, True)] * 4 + [(True, True)] * 2


def test_what_is_no_classifier_is_refused(splits):
    head = dict(type='mmpretrain.LinearClsHead', num_classes=2, in_channels=3)
    cfg = open_config(str(CONFIGS / 'vim_mini.py'), SHRUNK)
    cfg.model = head
    with pytest.raises(UserError, match='mine: LinearClsHead is no classif'):
        Learner('mine', cfg, splits['train'], 4)


def test_the_loss_is_that_of_the_host_on_single_samples(splits):
    from mmpretrain.structures import DataSample

    one = learner('mambascope', splits)
    one.model.train()
    pixels, labels = one.images.pixels[:3], one.images.labels[:3]
    loss = one._losses(pixels, labels)
    samples = [DataSample().set_gt_label(int(x)) for x in labels]
    data = {'inputs': list(pixels), 'data_samples': samples}
    data = one.model.data_preprocessor(data, True)
    with torch.autocast('cpu', torch.bfloat16):
        losses = one.model(**data, mode='loss')
    torch.testing.assert_close(loss, sum(losses.values()).detach())


def test_a_restart_forgets_the_probe(splits):
    one = learner('vim', splits)
    before = {k: v.clone() for k, v in one.model.state_dict().items()}
    one.train(2, 10)
    one.restart()
    assert one.steps_done == 0
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_rate_grows_with_the_square_root_of_the_batch(splits):
    one = learner('vim', splits)
    # The config's rate is for 64 images.
    assert one.rate == pytest.approx((4 / 64) ** 0.5)


def test_steps_of_all_models_together_fit(both, splits, tmp_path):
    session = start(both, splits, tmp_path / 'r.json', seconds=100.0)
    for one, seconds in zip(both, (0.1, 0.3), strict=True):
        session.state.runs[one.name] = sessions.Run(one.name, seconds)
    # 88 of 100 seconds are for training, a twentieth of them stays.
    assert session._steps_that_fit(0) == pytest.approx(88 * 0.95 / 0.4, abs=2)


def test_a_slow_machine_shortens_the_schedule(
    both, splits, tmp_path, monkeypatch
):
    session = start(both, splits, tmp_path / 'r.json')
    session.state.total = 1000
    monkeypatch.setattr(Session, '_steps_that_fit', lambda *_, **__: 400)
    session._fit_again(100)
    assert session.state.total == 400


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class Slow:
    """A learner with seconds of a step, an evaluation and one-off work."""

    name, device, hooks, seed = 'slow', torch.device('cpu'), [], 0
    how, why_not_recorded, batch, images = '', '', 1, [0]

    def __init__(self, clock, compiles=0.0, records=0.0, evaluates=0.0):
        self.clock, self.compiles, self.records = clock, compiles, records
        self.evaluates, self.recording_s, self.steps_done = evaluates, 0.0, 0
        self.restart()

    def restart(self):
        self.recorded, self.steps_done = False, 0

    def train(self, number, total):
        if not self.recorded:
            self.clock.now += self.records
            self.recording_s += self.records
        self.recorded = True
        self.clock.now += 0.01 * number
        self.steps_done += number
        return torch.zeros(())

    def accuracy(self, images):
        self.clock.now += self.compiles + self.evaluates
        self.compiles = 0.0
        return 50.0

    def save(self, path):
        pass


@pytest.mark.parametrize(
    'once',
    [dict(compiles=5.0), dict(records=5.0), dict(evaluates=0.5), {}],
    ids=['compiles', 'records', 'evaluates', 'nothing'],
)
def test_what_is_done_once_does_not_shorten_the_schedule(
    tmp_path, monkeypatch, once
):
    clock = Clock()
    monkeypatch.setattr(sessions, 'time', clock)
    monkeypatch.setattr(
        'mmscope.evaluation.interleaved_timing.time.perf_counter',
        clock.monotonic,
    )
    state = State(SETTING, 1, 1.0)
    state.runs['slow'] = sessions.Run('slow')
    slow = Slow(clock, **once)
    splits = {'val': None}
    session = Session([slow], splits, state, tmp_path / 'r.json', 200.0)
    session.probe()
    total = state.total
    while session._train_chunk():
        assert state.total == total
    assert slow.steps_done == total
    # And not because half of the time stays unused.
    assert clock.now > 0.8 * session.train_until


def test_other_files_and_settings_are_not_gone_on_with(tmp_path):
    path = tmp_path / 'r.json'
    path.write_text('[]')
    with pytest.raises(UserError, match='is not the JSON of'):
        open_state(path, SETTING, 4, 1.0)
    runs = {'vim': sessions.Run('vim')}
    write_json(path, State(SETTING | {'device': 'b'}, 4, 1.0, 9, 1.0, runs))
    assert open_state(path, SETTING, 4, 1.0).total == 0
    # What was learned there stays.
    assert json.loads((tmp_path / 'r-abc.json').read_text())['total'] == 9
    write_json(path, State(SETTING, 4, 1.0, total=9))
    assert open_state(path, SETTING, 4, 1.0).total == 9
    assert open_state(path, SETTING, 8, 1.0).total == 0


def test_what_was_learned_stays_where_a_training_begins_again(tmp_path):
    path = tmp_path / 'r.json'
    runs = {'vim': sessions.Run('vim')}
    write_json(path, State(SETTING, 4, 1.0, 9, 1.0, runs))
    assert open_state(path, SETTING, 4, 1.0, again=True).total == 0
    (kept,) = tmp_path.glob('r-*.json')
    assert json.loads(kept.read_text())['total'] == 9
