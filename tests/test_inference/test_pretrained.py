"""A model in a folder is the model, and what is no model says so."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml
from builders import classification, detection, segmentation
from builders.choices import exit_choice
from mmengine.config import Config

import mmscope
from mmscope.errors import UserError
from mmscope.evaluation.loading import build_model, enter_host
from mmscope.inference.foreign_config import read_literals
from mmscope.inference.portable_config import portable
from mmscope.inference.pretrained import (
    CONFIG,
    SHIPPED,
    WEIGHTS,
    shipped_names,
)
from mmscope.models import attach_gate
from mmscope.models.scoping import find_backbone

MODELS = {
    'mmpretrain': classification.classifier,
    'mmseg': segmentation.segmentor,
    'mmdet': detection.cascade,
}
PIPELINE = [{'type': 'mmscope.LoadImage'}]


def built(scope='mmpretrain', **options):
    pytest.importorskip(f'{scope}.models')
    cfg = Config(
        {
            'default_scope': scope,
            'model': MODELS[scope](**options),
            'test_dataloader': {'dataset': {'pipeline': PIPELINE}},
        }
    )
    enter_host(cfg)
    model = build_model(cfg, device='cpu')
    names = 'ab' if scope == 'mmdet' else 'abc'
    model.cfg, model.dataset_meta = cfg, {'classes': (*names,)}
    return model


def features(model):
    images = torch.rand(
        2, 3, 64, 64, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        return model.extract_feat(images)


@pytest.mark.parametrize('scope', MODELS)
def test_a_saved_model_comes_back_with_its_weights_and_its_gate(
    scope, tmp_path
):
    model = built(scope)
    if find_backbone(model).exit_head is not None:
        # As if it had been trained, else no gate would ask it.
        find_backbone(model).exit_head.num_updates.fill_(1)
    kind = find_backbone(model).gate and find_backbone(model).gate.kind
    attach_gate(model, 0.4, temperature=1.5)
    mmscope.save_pretrained(model, tmp_path / 'model')
    again = mmscope.from_pretrained(tmp_path / 'model', device='cpu')
    backbone = find_backbone(again)
    assert backbone.exit_threshold == 0.4
    assert backbone.gate.temperature == 1.5
    assert kind in (None, backbone.gate.kind)
    assert not again.training
    assert again.dataset_meta == {'classes': [*model.dataset_meta['classes']]}
    assert again.cfg.test_dataloader.dataset.pipeline == PIPELINE
    state = model.state_dict()
    assert list(again.state_dict()) == list(state)
    for name, value in again.state_dict().items():
        assert torch.equal(value, state[name]), name
    for ours, theirs in zip(features(model), features(again), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_a_training_brings_its_config(tmp_path):
    model = built()
    meta = {
        'cfg': model.cfg.pretty_text,
        'dataset_meta': {'classes': ('x', 'y', 'z')},
    }
    file = tmp_path / 'epoch_1.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, file)
    again = mmscope.from_pretrained(file, exit_threshold=0.7, device='cpu')
    assert find_backbone(again).exit_threshold == 0.7
    assert again.dataset_meta['classes'] == ('x', 'y', 'z')
    attach_gate(model, 0.7)
    assert torch.equal(features(model)[-1], features(again)[-1])


def test_only_what_prediction_needs_is_kept(tmp_path):
    model = built()
    cfg = model.cfg.copy()
    cfg.load_from = '/a/folder/of/somebody.pth'
    cfg.train_dataloader = {'dataset': {'data_root': '/a/folder'}}
    cfg.test_dataloader.dataset.data_root = '/a/folder'
    cfg.model.backbone.init_cfg = {
        'type': 'Pretrained',
        'checkpoint': '/a/folder/of/somebody.pth',
    }
    mmscope.save_pretrained(model, tmp_path / 'model', cfg)
    assert 'folder' not in (tmp_path / 'model' / CONFIG).read_text()


def test_classes_of_a_python_style_config_become_names():
    from mmscope.models import MambaScope

    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    from mmpretrain.models import ImageClassifier

    model = {'type': ImageClassifier, 'backbone': {'type': MambaScope}}
    kept = portable(Config({'default_scope': 'mmpretrain', 'model': model}))
    assert json.loads(json.dumps(kept))['model']['backbone'] == {
        'type': 'mmscope.models.scopes.MambaScope'
    }


def test_another_model_is_never_overwritten(tmp_path):
    model = built()
    mmscope.save_pretrained(model, tmp_path)
    before = (tmp_path / WEIGHTS).read_bytes()
    with pytest.raises(UserError, match='json and model.safetensors already'):
        mmscope.save_pretrained(model, tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == before


def replaced_head(model):
    model.head.fc = torch.nn.Linear(model.head.fc.in_features, 7)
    return r'model\.head\.fc\.out_features is 7, and 3 in the config'


def another_head(model):
    from mmpretrain.models import LinearClsHead

    model.head = LinearClsHead(3, model.head.in_channels)
    return r'model\.head is mmpretrain.*LinearClsHead, and mmscope'


def another_ratio(model):
    find_backbone(model).refine_ratio = 0.35
    return r'model\.backbone\.refine_ratio is 0\.35, and '


def coverage(model):
    model.cfg.model.backbone.score_metric = 'detail'
    find_backbone(model).score_metric = 'detail'
    find_backbone(model).refine_coverage = 0.9
    return r'refine_(coverage is 0\.9, and None|ratio is None, and 0\.8) in'


def another_place(model):
    find_backbone(model).cls_position = 'ahead'
    return r"fine_summary is Summ.*'first'.*, and Summ.*'middle'"


def one_more_part(model):
    model.extra = torch.nn.Linear(2, 2)
    return r'model\.extra is torch.*Linear, and absent in the config'


def one_part_less(model):
    model.backbone.layers = model.backbone.layers[:-1]
    return r'model\.backbone\.layers\.\S+ is absent, and mmscope'


def another_weight(model):
    model.backbone.more = torch.nn.Parameter(torch.zeros(3))
    return r'Unexpected key.* "backbone.more"'


def another_mean(model):
    model.data_preprocessor.mean.fill_(0.0)
    return r'model\.data_preprocessor\.mean has other values than in the con'


def one_more_buffer(model):
    model.head.register_buffer('more', torch.ones(2), persistent=False)
    return r'model\.head\.more has other values'


@pytest.mark.parametrize(
    'change',
    [
        replaced_head,
        another_head,
        another_ratio,
        coverage,
        another_place,
        one_more_part,
        one_part_less,
        another_weight,
        another_mean,
        one_more_buffer,
    ],
)
def test_what_was_changed_after_building_is_not_lost_in_silence(
    change, tmp_path
):
    model = built()
    message = change(model)
    with pytest.raises(UserError, match=f'(?s){message}.*nothing was written'):
        mmscope.save_pretrained(model, tmp_path / 'model')
    assert not (tmp_path / 'model').exists()


@pytest.mark.parametrize('kind', ['half', 'double'])
def test_a_cast_model_is_refused_as_it_would_come_back_as_another(
    kind, tmp_path
):
    model = getattr(built(), kind)()
    message = 'is torch.float(16|64), and would come back as torch.float32'
    with pytest.raises(UserError, match=f'{message}.*nothing was written'):
        mmscope.save_pretrained(model, tmp_path / 'model')
    assert not (tmp_path / 'model').exists()


@pytest.mark.parametrize('name', [CONFIG, WEIGHTS, f'a link to {CONFIG}'])
def test_files_of_others_are_never_overwritten(name, tmp_path):
    file = tmp_path / name.removeprefix('a link to ')
    if name != file.name:
        file.symlink_to(tmp_path / 'nowhere')
    else:
        file.write_text('theirs')
    with pytest.raises(UserError, match=f'holds {file.name} already'):
        mmscope.save_pretrained(built(), tmp_path)
    assert [*tmp_path.iterdir()] == [file]
    assert file.is_symlink() or file.read_text() == 'theirs'


@pytest.mark.parametrize(
    ('place', 'message'),
    [('file', 'file is a file, expected a'), ('file/model', 'cannot be wri')],
)
def test_a_file_is_no_place_for_a_model(place, message, tmp_path):
    (tmp_path / 'file').write_text('theirs')
    with pytest.raises(UserError, match=f'{message}.*name another'):
        mmscope.save_pretrained(built(), tmp_path / place)
    assert (tmp_path / 'file').read_text() == 'theirs'


def test_a_changed_reduction_is_not_lost_in_silence(tmp_path):
    model = built(
        host='ImageClassifier',
        head={'type': 'LinearClsHead'},
        type='mmscope.VisionMamba',
        reduction={'type': 'mmscope.RMeeTo', 'merge_tokens': 1},
    )
    model.backbone.reduction.merge_tokens = 2
    message = r'reduction\.merge_tokens is 2, and 1 in the config'
    with pytest.raises(UserError, match=message):
        mmscope.save_pretrained(model, tmp_path / 'model')


def test_weights_say_themselves_that_selection_is_off(tmp_path):
    model = built()
    find_backbone(model).selection = False
    mmscope.save_pretrained(model, tmp_path / 'model')
    again = mmscope.from_pretrained(tmp_path / 'model', device='cpu')
    assert find_backbone(again).selection is False
    assert torch.equal(features(model)[0], features(again)[0])


def test_it_does_not_matter_that_a_model_was_initialised(tmp_path):
    model = built(init_cfg={'type': 'TruncNormal', 'layer': 'Linear'})
    model.init_weights()
    mmscope.save_pretrained(model, tmp_path / 'model')


def test_a_changed_model_is_saved_with_a_config_that_says_so(tmp_path):
    model = built()
    replaced_head(model)
    cfg = model.cfg.copy()
    cfg.model.head.num_classes = model.head.num_classes = 7
    model.dataset_meta = {'classes': tuple('abcdefg')}
    mmscope.save_pretrained(model, tmp_path / 'model', cfg)
    again = mmscope.from_pretrained(tmp_path / 'model', device='cpu')
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        outputs = [m(images, mode='tensor') for m in (model, again)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize('scope', MODELS)
def test_a_model_that_was_used_is_saved_as_a_new_one(scope, tmp_path):
    model = built(scope)
    features(model)
    model.train()
    model.extract_feat(torch.rand(2, 3, 64, 64))
    mmscope.save_pretrained(model, tmp_path / 'model')


ABSENT = object()
HOOK = {'type': 'mmscope.ConfidenceGateHook', 'exit_threshold': 0.5}
ODD = [
    ('model', 5, 'model is 5, expected a dict'),
    ('model', ABSENT, 'model is None, expected a dict'),
    (
        'default_scope',
        ['mmseg'],
        r"default_scope is \['mmseg'\], expected one",
    ),
    ('model.type', 'NoSuch', 'model cannot be used: KeyError.*NoSuch'),
    ('model.type', 3, 'model.type is 3, expected the name of a type'),
    ('model.backbone', 5, 'model.backbone cannot be used: TypeError'),
    ('model.backbone', [], 'model cannot be used: ValueError'),
    ('model.backbone.type', ABSENT, 'model.backbone cannot be used: KeyError'),
    ('model.backbone.type', 'mmseg..x', 'model.backbone cannot be used'),
    ('model.backbone.img_size', 'x', 'model.backbone cannot be used'),
    ('model.backbone.odd', 1, 'model.backbone cannot be used: .*odd'),
    ('model.head.num_classes', 'x', 'model.head cannot be used: TypeError'),
    ('model.head.loss', {'type': 'No'}, 'model.head.loss cannot.*No is not'),
    ('custom_hooks', {}, r'custom_hooks is \{\}, expected a list'),
    ('custom_hooks.0', 'x', "custom_hooks.0 is 'x', expected a dict"),
    ('custom_hooks.0.exit_threshold', 'x', 'custom_hooks cannot be used'),
    ('custom_hooks.0.confidence', 'x', 'custom_hooks cannot be used'),
    ('test_dataloader', [1], 'test_dataloader is'),
    ('test_dataloader.dataset.pipeline', 5, 'dataset.pipeline is 5'),
    ('test_dataloader.dataset.pipeline.0', 5, 'pipeline.0 is 5, expected a'),
    ('dataset_meta', [], r'dataset_meta is \[\], expected a dict'),
    ('custom_hooks.0.threshold', 1, "custom_hooks cannot.*'threshold', which"),
    ('custom_hooks', [HOOK] * 2, 'custom_hooks cannot be used.*has 2 hooks'),
    ('dataset_meta.classes', ['a'], 'has 1 names, but model.head .*8 classes'),
    ('dataset_meta.classes', [5], 'classes.0 is 5, expected a str'),
    ('model.backbone.arch', {'__tuple__': 5}, '__tuple__ is 5, expected'),
]


def put(content, key, value):
    """Set an entry of nested dicts and lists, or take it away."""
    *outer, last = [int(x) if x.isdigit() else x for x in key.split('.')]
    for part in outer:
        content = content[part]
    if value is ABSENT:
        del content[last]
    else:
        content[last] = value


@pytest.mark.parametrize(('key', 'value', 'message'), ODD)
def test_an_odd_value_of_a_config_is_named_with_file_and_key(
    key, value, message, tmp_path
):
    shutil.copytree(SHIPPED / 'demo', tmp_path / 'model')
    file = tmp_path / 'model' / CONFIG
    content = json.loads(file.read_text())
    put(content, key, value)
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f'(?s){CONFIG}.*{message}'):
        mmscope.from_pretrained(tmp_path / 'model', device='cpu')


@pytest.mark.parametrize('name', ['nothing', './nothing', '/no/such/folder'])
def test_a_name_that_means_nothing_says_what_would(name):
    with pytest.raises(UserError, match='comes with the package: demo'):
        mmscope.from_pretrained(name)


def damage(folder, what):
    if what == 'cut weights':
        content = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    elif what == 'no weights':
        (folder / WEIGHTS).unlink()
    elif what == 'no config':
        (folder / CONFIG).unlink()
    elif what == 'cut config':
        (folder / CONFIG).write_text((folder / CONFIG).read_text()[:40])
    elif what == 'a list':
        (folder / CONFIG).write_text('[]')
    elif what == 'another size':
        content = json.loads((folder / CONFIG).read_text())
        content['model']['backbone']['arch']['embed_dims'] = 32
        content['model']['head']['in_channels'] = 32
        (folder / CONFIG).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ('what', 'message'),
    [
        ('cut weights', 'cannot be read: SafetensorError'),
        ('no weights', 'cannot be read: FileNotFoundError'),
        ('no config', 'is no model: expected a folder with config.json'),
        ('cut config', 'cannot be read: config.json: JSONDecodeError'),
        ('a list', r'config.json: the content is \[\], expected a dict'),
        ('another size', 'do not fit its own config'),
    ],
)
def test_damaged_folders_are_refused(what, message, tmp_path):
    mmscope.save_pretrained(built(), tmp_path)
    damage(tmp_path, what)
    with pytest.raises(UserError, match=message):
        mmscope.from_pretrained(tmp_path)


def test_a_model_that_cannot_exit_takes_no_threshold(tmp_path):
    model = built(
        host='ImageClassifier',
        head={'type': 'LinearClsHead'},
        type='mmscope.VisionMamba',
    )
    mmscope.save_pretrained(model, tmp_path)
    again = mmscope.from_pretrained(tmp_path, device='cpu')
    assert torch.equal(features(model)[0], features(again)[0])
    with pytest.raises(UserError, match='cannot exit early'):
        mmscope.from_pretrained(tmp_path, exit_threshold=0.5)


def test_a_model_without_config_asks_for_one(tmp_path):
    model = built()
    del model.cfg
    with pytest.raises(UserError, match='does not know its config'):
        mmscope.save_pretrained(model, tmp_path)


def test_the_hub_is_asked_for_owner_and_name(tmp_path, monkeypatch):
    reason = 'needs huggingface_hub'
    hub = pytest.importorskip('huggingface_hub', reason=reason)
    model = built()
    # The client's own cache, as an earlier download leaves it.
    repository = tmp_path / 'models--owner--name'
    mmscope.save_pretrained(model, repository / 'snapshots' / 'abc')
    (repository / 'refs').mkdir()
    (repository / 'refs' / 'main').write_text('abc')

    def offline(name, **options):
        return actual(
            name, cache_dir=tmp_path, local_files_only=True, **options
        )

    actual = hub.snapshot_download
    monkeypatch.setattr(hub, 'snapshot_download', offline)
    again = mmscope.from_pretrained('owner/name', device='cpu')
    assert torch.equal(features(model)[0], features(again)[0])
    with pytest.raises(UserError, match='the Hub does not give it'):
        mmscope.from_pretrained('owner/other')


def test_without_the_client_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(UserError, match=r'mmscope\[hub\]'):
        mmscope.from_pretrained('owner/name')


def trained(folder, model=None, **cfg):
    """A checkpoint that holds its config."""
    model = model or built()
    model.cfg.update(cfg)
    meta = {'cfg': model.cfg.pretty_text}
    checkpoint = {'state_dict': model.state_dict(), 'meta': meta}
    torch.save(checkpoint, folder / 'epoch_1.pth')
    return str(folder / 'epoch_1.pth')


def test_names_of_a_dense_host_are_counted_too(tmp_path):
    model = built('mmseg')
    model.dataset_meta = {'classes': ('a', 'b')}
    message = r'has 2 names, but model\.\S+head is made for 3 classes'
    with pytest.raises(UserError, match=message):
        mmscope.save_pretrained(model, tmp_path / 'model')
    assert not (tmp_path / 'model').exists()


def test_two_gates_are_refused_in_a_checkpoint_and_by_a_config(tmp_path):
    from mmscope.cli.publish import main

    model = built()
    file = trained(tmp_path, model, custom_hooks=[HOOK, HOOK])
    with pytest.raises(UserError, match='epoch_1.pth: .*has 2 hooks Conf'):
        mmscope.from_pretrained(file)
    model.cfg.dump(tmp_path / 'mine.py')
    command = [file, str(tmp_path / 'a'), '--config']
    with pytest.raises(SystemExit, match='has 2 hooks ConfidenceGateHook'):
        main([*command, str(tmp_path / 'mine.py')])
    model.cfg.custom_hooks = [{**HOOK, 'treshold': 1}]
    model.cfg.dump(tmp_path / 'mine.py')
    with pytest.raises(SystemExit, match="'treshold'.* keys are exit_thresh"):
        main([*command, str(tmp_path / 'mine.py')])


def test_publishing_into_this_folder_names_the_model_after_it(
    tmp_path, monkeypatch
):
    from mmscope.cli.publish import main

    file = trained(tmp_path)
    (tmp_path / 'mine').mkdir()
    monkeypatch.chdir(tmp_path / 'mine')
    main([file, '.'])
    said = yaml.safe_load((tmp_path / 'mine' / 'metafile.yml').read_text())
    assert said['Models'][0]['Name'] == 'mine'


@pytest.mark.parametrize('is_file', [True, False])
def test_publishing_leaves_the_metafile_of_others(is_file, tmp_path):
    from mmscope.cli.publish import main

    folder = tmp_path / 'published'
    theirs = folder / 'metafile.yml'
    theirs.parent.mkdir()
    theirs.write_text('theirs') if is_file else theirs.mkdir()
    message = 'holds metafile.yml already: choose another folder'
    with pytest.raises(SystemExit, match=message):
        main([trained(tmp_path), str(folder)])
    assert [*folder.iterdir()] == [theirs]


@pytest.mark.parametrize('what', ['write_bytes', 'rename'])
def test_a_disk_that_is_full_at_the_metafile_leaves_nothing(
    what, tmp_path, monkeypatch
):
    from mmscope.cli.publish import main

    file, actual = trained(tmp_path), getattr(Path, what)

    def full(path, *args):
        if 'metafile.yml' in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return actual(path, *args)

    monkeypatch.setattr(Path, what, full)
    message = 'published cannot be written to .*No space left.*name another'
    with pytest.raises(SystemExit, match=message):
        main([file, str(tmp_path / 'published')])
    assert [*tmp_path.iterdir()] == [Path(file)]


@pytest.mark.parametrize(
    ('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_publishing_that_was_stopped_can_be_done_again(
    number, status, tmp_path
):
    from mmscope.cli.publish import main

    file, folder = trained(tmp_path), tmp_path / 'published'

    def stopped():
        actual = Path.rename

        def rename(path, target):
            if WEIGHTS in path.name:
                os.kill(os.getpid(), number)
            return actual(path, target)

        Path.rename = rename
        main([file, str(folder)])

    child = multiprocessing.get_context('fork').Process(target=stopped)
    child.start()
    child.join(60)
    assert child.exitcode == status
    assert folder.exists() == (number == signal.SIGKILL)
    with pytest.raises(UserError, match='no model'):
        mmscope.from_pretrained(folder, device='cpu')
    main([file, str(folder)])
    mmscope.from_pretrained(folder, device='cpu')
    assert len([*folder.iterdir()]) == 3


@pytest.mark.parametrize('place', ['file', 'file/model'])
def test_publishing_onto_a_file_says_what_to_do(place, tmp_path):
    from mmscope.cli.publish import main

    (tmp_path / 'file').write_text('theirs')
    with pytest.raises(SystemExit, match='name another'):
        main([trained(tmp_path), str(tmp_path / place)])


def test_a_threshold_for_another_confidence_is_refused(tmp_path, capsys):
    from mmscope.cli.publish import main

    pytest.importorskip('mmseg.models')
    file = trained(tmp_path, built('mmseg'))
    eta, folder = tmp_path / 'eta.json', str(tmp_path / 'published')
    command = [file, folder, '--exit-threshold', str(eta)]
    exit_choice(confidence='entropy').write(eta)
    message = (
        "chosen for confidence='entropy', this model has 'mean_present': "
        'choose one for this model'
    )
    with pytest.raises(SystemExit, match=message):
        main(command)
    exit_choice(confidence='mean_present', temperature=1.5).write(eta)
    main(command)
    assert 'chosen on 40 images of val' in capsys.readouterr().out
    gate = find_backbone(mmscope.from_pretrained(folder)).gate
    assert (gate.kind, gate.temperature) == ('mean_present', 1.5)


def test_publishing_leaves_out_what_only_training_needs(tmp_path, capsys):
    from mmscope.cli.publish import main

    model = built()
    checkpoint = {
        'state_dict': model.state_dict(),
        'optimizer': {'state': torch.zeros(100_000)},
        'meta': {'cfg': model.cfg.pretty_text},
    }
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    folder = tmp_path / 'published'
    main([str(tmp_path / 'epoch_1.pth'), str(folder), '--exit-threshold=0.6'])
    content = (folder / WEIGHTS).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert digest in capsys.readouterr().out
    said = yaml.safe_load((folder / 'metafile.yml').read_text())['Models'][0]
    assert said['SHA256'] == digest
    assert len(content) < 2 * 4 * said['Metadata']['Parameters']
    again = mmscope.from_pretrained(folder, device='cpu')
    assert find_backbone(again).exit_threshold == 0.6
    attach_gate(model, 0.6)
    assert torch.equal(features(model)[0], features(again)[0])


@pytest.mark.parametrize('given', [[], ['--exit-threshold=0.6']])
def test_publishing_by_a_config_keeps_its_gate_and_the_classes(
    given, tmp_path
):
    from mmscope.cli.publish import main

    model = built()
    hook = {
        'type': 'mmscope.ConfidenceGateHook',
        'exit_threshold': 0.3,
        'temperature': 1.5,
    }
    model.cfg.custom_hooks = [hook]
    model.cfg.dump(tmp_path / 'mine.py')
    torch.save(
        {
            'state_dict': model.state_dict(),
            'meta': {'dataset_meta': model.dataset_meta},
        },
        tmp_path / 'weights.pth',
    )
    files = [str(tmp_path / name) for name in ('weights.pth', 'published')]
    main([*files, '--config', str(tmp_path / 'mine.py'), *given])
    again = mmscope.from_pretrained(files[1], device='cpu')
    backbone = find_backbone(again)
    assert backbone.exit_threshold == (0.6 if given else 0.3)
    assert backbone.gate.temperature == 1.5
    assert again.dataset_meta == {'classes': ['a', 'b', 'c']}


def test_what_ships_is_small_and_is_what_its_metafile_says():
    for name in shipped_names():
        weights = SHIPPED / name / WEIGHTS
        assert weights.stat().st_size < 2e6
        meta = yaml.safe_load((SHIPPED / name / 'metafile.yml').read_text())
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        assert meta['Models'][0]['SHA256'] == digest


def test_the_shipped_model_exits_where_it_is_right(tmp_path):
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    from mmscope.cli.first_look import first_look

    result, pictures = first_look(tmp_path, number=160)
    rows = result.rows
    coarse, fine = rows['top1'].iloc[0], rows['top1'].iloc[-1]
    # Eight classes; s.e. of 160 images at 90 % is 2.4 points.
    assert fine > 85
    assert coarse > 60
    half = rows.iloc[(rows['exit_ratio'] - 0.5).abs().argmin()]
    assert half['exited'] > coarse
    assert half['mean_cost'] < rows['mean_cost'].iloc[-1]
    assert {path.name for path in pictures} == {
        'first_look.png',
        'first_exits.png',
    }
    assert all(path.is_file() for path in pictures)


def saved_config(folder):
    mmscope.save_pretrained(built(), folder)
    return json.loads((folder / CONFIG).read_text())


CALLS = [
    {'type': 'os.mkdir', 'path': 'ran'},
    {'type': 'mmengine.utils.mkdir_or_exist', 'dir_name': 'ran'},
    {'type': 'mmengine.runner.Runner', 'model': None, 'work_dir': 'ran'},
]


@pytest.mark.parametrize('call', CALLS)
@pytest.mark.parametrize('place', ['model', 'part', 'pipeline'])
def test_a_folder_of_others_calls_nothing_but_parts_of_models(
    call, place, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    content = saved_config(tmp_path / 'model')
    if place == 'model':
        content['model'] = call
    elif place == 'part':
        content['model']['head']['loss'] = call
    else:
        content['test_dataloader']['dataset']['pipeline'] = [call]
    (tmp_path / 'model' / CONFIG).write_text(json.dumps(content))
    with pytest.raises(UserError, match='expected a registered type'):
        mmscope.from_pretrained(tmp_path / 'model')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('code', ["__import__('os').mkdir('ran')", 'x ='])
def test_a_checkpoint_of_others_runs_no_code_of_its_config(
    code, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    model = built()
    torch.save(
        {
            'state_dict': model.state_dict(),
            'meta': {'cfg': f'{code}\n{model.cfg.pretty_text}'},
        },
        'theirs.pth',
    )
    with pytest.raises(UserError, match='is not of plain values'):
        mmscope.from_pretrained('theirs.pth')
    assert not (tmp_path / 'ran').exists()


def test_a_config_noted_in_a_checkpoint_is_read_as_it_was(tmp_path):
    cfg = Config(
        {
            'model': {'a': (1, -2.5), 'b': [None, True, 'x'], 'c': {}},
            'odd': {'a b': 1, 3: {'d': ()}},
        }
    )
    assert read_literals(cfg.pretty_text) == cfg.to_dict()


def test_tuples_of_a_config_come_back_as_tuples(tmp_path):
    model = built()
    resize = {'type': 'Resize', 'scale': (2048, 512), 'keep_ratio': True}
    steps = [*PIPELINE, resize, {'type': 'Odd', 'parts': [(1, [2, ()])]}]
    model.cfg.test_dataloader.dataset.pipeline = steps
    mmscope.save_pretrained(model, tmp_path / 'model')
    again = mmscope.from_pretrained(tmp_path / 'model', device='cpu')
    assert again.cfg.test_dataloader.dataset.pipeline == steps
