"""Configs of the package are found by their names."""

import pytest

from mmscope.errors import UserError
from mmscope.runtime import configs
from mmscope.runtime.configs import config_names, find_config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in (
        *('_base_/models/a', 'ade20k/one', 'camvid/one', 'camvid/own'),
        *('bccd/two', 'coco_mini/two', 'imagenet/three', 'coco/three'),
    ):
        path = tmp_path / f'{name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(configs, 'FOLDERS', (tmp_path / 'absent', tmp_path))
    return tmp_path


def test_bases_are_no_configs(folder):
    assert 'ade20k/one' in config_names()
    assert not any('_base_' in name for name in config_names())


@pytest.mark.parametrize(
    ('name', 'found'),
    [
        ('camvid/own', 'camvid/own'),
        ('own', 'camvid/own'),
        ('own.py', 'camvid/own'),
        ('configs/camvid/own.py', 'camvid/own'),
        ('camvid/one', 'camvid/one'),
        ('one', 'ade20k/one'),  # the paper's data set
    ],
)
def test_a_name_means_one_config(folder, name, found):
    assert find_config(name) == folder / f'{found}.py'


def test_a_file_comes_before_a_name(folder, monkeypatch):
    monkeypatch.chdir(folder / 'camvid')
    assert find_config('one.py').resolve() == folder / 'camvid/one.py'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('two', 'several configs are called two: say bccd/two or coco_mini/'),
        ('three', 'say coco/three or imagenet/three'),
        ('onw', 'Did you mean camvid/own?'),
        ('nothing_alike', 'config nothing_alike does not exist'),
        ('_base_/models/a', 'does not exist'),
    ],
)
def test_an_unclear_name_is_refused(folder, name, message):
    with pytest.raises(UserError) as error:
        find_config(name)
    assert message in str(error.value)


def test_an_installation_without_configs_says_so(folder, monkeypatch):
    monkeypatch.setattr(configs, 'FOLDERS', (folder / 'a', folder / 'b'))
    with pytest.raises(UserError, match='this installation has no configs'):
        find_config('own')
