"""What a real interpreter says about broken packages, and logs."""

import pytest
from setup_env.stacks import SetupError


def write_package(folder, name, source):
    """Write a package of one file."""
    package = folder / name
    package.mkdir(parents=True)
    (package / '__init__.py').write_text(source)


def test_mmcv_without_ops_is_found_broken(bare_env, site_packages):
    write_package(site_packages, 'mmcv', '')
    write_package(site_packages, 'mmcv/ops', 'from mmcv import _ext')
    assert bare_env.broken(['mmcv']) == {}
    broken = bare_env.broken(['mmcv', 'mmcv.ops'])
    assert list(broken) == ['mmcv.ops']
    assert "cannot import name '_ext'" in broken['mmcv.ops']


def test_extension_of_another_torch_is_found_broken(bare_env, site_packages):
    write_package(site_packages, 'mmcv', '')
    write_package(site_packages, 'mmcv/ops', 'from mmcv import _ext')
    suffix = bare_env.output(
        'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))'
    )
    extension = site_packages / f'mmcv/_ext{suffix}'
    extension.write_bytes(b'not a shared library')
    assert 'ImportError' in bare_env.broken(['mmcv.ops'])['mmcv.ops']


def test_module_that_kills_the_interpreter_does_not_hide_others(
    bare_env, site_packages
):
    write_package(site_packages, 'deadly', 'import os; os.abort()')
    write_package(site_packages, 'healthy', '')
    broken = bare_env.broken(['deadly', 'healthy', 'absent'])
    assert 'crashed' in broken['deadly']
    assert 'ModuleNotFoundError' in broken['absent']
    assert 'healthy' not in broken


def test_packages_on_pythonpath_do_not_count(bare_env, tmp_path, monkeypatch):
    write_package(tmp_path / 'elsewhere', 'mmcv', '')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'elsewhere'))
    assert 'mmcv' in bare_env.broken(['mmcv'])


def test_distribution_of_the_other_stack_is_seen(bare_env, site_packages):
    info = site_packages / 'mmcv-2.1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: mmcv\nVersion: 2.1.0\n'
    )
    assert bare_env.foreign() == ['mmcv']


def test_failed_command_shows_the_end_of_its_output(bare_env):
    code = 'print("what went wrong"); raise SystemExit(3)'
    with pytest.raises(SetupError, match=r'(?s)what went wrong.*broke\.log'):
        bare_env.run('broke', [bare_env.python, '-c', code])
