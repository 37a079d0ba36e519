"""From command line to config."""

import pytest
from mmengine.config import Config

from mmscope.errors import UserError
from mmscope.runtime import check_host, config


def test_a_missing_host_is_named_without_a_command_of_the_wrong_stack(
    monkeypatch,
):
    monkeypatch.setattr(config, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='mmcv and mmseg not installed') as got:
        check_host(Config({'default_scope': 'mmseg', 'model': {}}))
    assert 'mmscope doctor' in str(got.value)
    assert 'pip install' not in str(got.value)


def test_a_host_that_cannot_be_imported_is_one_sentence(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError(f"No module named 'mmcv._ext' ({name})")

    monkeypatch.setattr(config, 'find_spec', lambda name: name)
    monkeypatch.setattr(config, 'import_module', fail)
    with pytest.raises(UserError, match='needs mmdetection') as caught:
        check_host(Config({'default_scope': 'mmdet', 'model': {}}))
    assert "'mmcv._ext' (mmdet.models)" in str(caught.value)
    assert 'mmscope doctor' in str(caught.value)


def test_a_file_that_is_no_config_is_one_sentence(tmp_path):
    from mmscope.cli.config import main

    (tmp_path / 'a.py').write_text("_base_ = 'absent.py'")
    with pytest.raises(SystemExit, match=r'error: config .*a\.py cannot be'):
        main([str(tmp_path / 'a.py')])
