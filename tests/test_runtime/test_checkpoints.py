"""What is read is safe, named as the model names it, and complete."""

import os

import pytest
import torch
from builders import classification
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from mmscope.errors import UserError
from mmscope.models import MambaScope
from mmscope.runtime import (
    load_model_weights,
    read_checkpoint,
    reading_plain,
)

ARCH = {'embed_dims': 16, 'num_layers': 2}


class Host(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.backbone = MambaScope(arch=ARCH, img_size=64, **options)
        self.head = nn.Linear(16, 3)


def renamed(state, before='', inside=''):
    first = 'backbone.layers.0'
    return {
        before + k.replace(first, inside + first, 1): v
        for k, v in state.items()
    }


WRAPPED = {
    'plain': {},
    'ddp': {'before': 'module.'},
    'twice': {'before': 'module.module.'},
    'compiled': {'before': '_orig_mod.'},
    'compiled in ddp': {'before': 'module._orig_mod.'},
    'part compiled': {'inside': '_orig_mod.'},
    'fsdp': {'before': '_fsdp_wrapped_module.'},
}


def test_a_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save({'state_dict': {'a': torch.zeros(1)}}, tmp_path / 'w.pth')
    assert list(read_checkpoint('~/w.pth')['state_dict']) == ['a']


@pytest.mark.parametrize('bare', [True, False])
@pytest.mark.parametrize('case', WRAPPED)
def test_what_wrappers_add_to_names_is_taken_out(tmp_path, case, bare):
    source, target, path = Host(), Host(), tmp_path / 'some.pth'
    state = renamed(source.state_dict(), **WRAPPED[case])
    torch.save(state if bare else {'state_dict': state}, path)
    assert load_model_weights(target, path) == ''
    for key, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


def test_an_average_brings_its_own_entry_along(tmp_path):
    average = torch.optim.swa_utils.AveragedModel(Host())
    path = tmp_path / 'ema.pth'
    torch.save(average.state_dict(), path)
    assert 'n_averaged' in load_model_weights(Host(), path)


def test_names_that_would_fall_together_are_left_alone(tmp_path):
    path = tmp_path / 'some.pth'
    torch.save({'module.a': torch.ones(1), 'a': torch.zeros(1)}, path)
    assert set(read_checkpoint(path)['state_dict']) == {'module.a', 'a'}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda s: Host().backbone.state_dict(),
            r'none of its \d+ entries .*Host \(backbone.*of the backbone alo',
        ),
        (
            lambda s: {f'student.{k}': v for k, v in s.items()},
            r'\(student\.backbone.*is one of Host \(backbone\.',
        ),
        (
            lambda s: {k: v for k, v in s.items() if k[:4] == 'head'},
            "holds no entry that begins with 'backbone",
        ),
        (
            lambda s: {k: v for k, v in s.items() if k[:4] != 'head'},
            r'2 of \d+ weights of Host are not in it \(head\.bias, head\.w',
        ),
        (
            lambda s: Host(in_channels=1).state_dict(),
            r'in_channels 1, expected 3: set backbone\.in_channels=1',
        ),
    ],
)
def test_a_file_that_does_not_fit_is_told_by_names(tmp_path, change, message):
    path = tmp_path / 'some.pth'
    torch.save({'state_dict': change(Host().state_dict())}, path)
    with pytest.raises(UserError, match=message):
        load_model_weights(Host(), path)


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.skipif(
    not hasattr(torch.serialization, 'safe_globals'),
    reason='torch before 2.4 has no list of safe types',
)
def test_nothing_is_unpickled_and_the_way_out_is_told(tmp_path):
    path, mark = tmp_path / 'harm.pth', tmp_path / 'mark'
    state = Host().state_dict()
    torch.save({'state_dict': state, 'meta': Harm(mark)}, path)
    with pytest.raises(UserError, match=r'only unpickling.*weights_only=Fa'):
        read_checkpoint(path)
    assert not mark.exists()


def test_a_page_saved_as_a_checkpoint_is_no_object(tmp_path):
    path = tmp_path / 'page.pth'
    path.write_text('<html>404</html>')
    with pytest.raises(UserError, match='16 bytes, damaged or inc') as found:
        read_checkpoint(path)
    assert 'weights_only' not in str(found.value)


NO_WEIGHTS = [
    ({'optimizer': {}, 1: 2}, r"holds dict \['1', 'optimizer'\], expected"),
    ({'state_dict': None}, 'is NoneType, expected a dict of tensors'),
    ({'state_dict': {0: torch.zeros(1)}}, 'expected a dict of tensors'),
    (torch.zeros(3), 'holds Tensor, expected a dict'),
]


@pytest.mark.parametrize(('content', 'message'), NO_WEIGHTS)
def test_what_holds_no_weights_says_what_it_holds(tmp_path, content, message):
    torch.save(content, tmp_path / 'odd.pth')
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / 'odd.pth')


def test_a_published_model_in_place_of_a_checkpoint_is_told(tmp_path):
    (tmp_path / 'model.safetensors').write_bytes(b'x' * 100)
    for path in (tmp_path, tmp_path / 'model.safetensors'):
        with pytest.raises(UserError, match='as MODEL of mmscope infer'):
            read_checkpoint(path)


def test_what_a_runner_wrote_is_read_without_unpickling(tmp_path):
    root = classification.write_photos(tmp_path / 'data', per_class=2)
    model = classification.classifier()
    runner = classification.runner(root, tmp_path / 'a', model, epochs=1)
    runner.train()
    path = tmp_path / 'a/epoch_1.pth'
    content = read_checkpoint(path)
    assert {'meta', 'message_hub', 'optimizer', 'state_dict'} <= set(content)
    # A runner that loads by itself strips the same.
    state = {
        f'module._orig_mod.{k}': v for k, v in content['state_dict'].items()
    }
    wrapped = tmp_path / 'wrapped.pth'
    torch.save({**content, 'state_dict': state}, wrapped)
    cfg = classification.config(
        root, tmp_path / 'b', model, seed=1, load_from=str(wrapped)
    )
    other = Runner.from_cfg(cfg)
    with reading_plain():
        other.test()
    for key, value in other.model.state_dict().items():
        assert torch.equal(value, runner.model.state_dict()[key])


@pytest.mark.parametrize('case', WRAPPED)
def test_pretrained_weights_are_read_without_wrappers(tmp_path, case):
    source, path = Host(), tmp_path / 'some.pth'
    state = renamed(source.state_dict(), **WRAPPED[case])
    torch.save({'state_dict': state}, path)
    target = Host(
        init_cfg={
            'type': 'Pretrained',
            'checkpoint': str(path),
            'prefix': 'backbone.',
        }
    )
    with reading_plain():
        target.backbone.init_weights()
    for key, value in target.backbone.state_dict().items():
        assert torch.equal(value, source.backbone.state_dict()[key]), key


def test_files_are_read_by_mmengine_again_afterwards(tmp_path):
    path = tmp_path / 'some.pth'
    torch.save({'module.a': torch.zeros(1)}, path)

    def names():
        return list(CheckpointLoader.load_checkpoint(str(path)))

    with reading_plain():
        assert names() == ['a']
    with pytest.raises(ZeroDivisionError), reading_plain():
        raise ZeroDivisionError
    assert names() == ['module.a']
