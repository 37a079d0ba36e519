"""What a real interpreter says about broken packages; logs and locks."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from setup_env.environment import locked
from setup_env.stacks import SetupError


def write_package(folder, name, source):
    """Write a package of one file."""
    package = folder / name
    package.mkdir(parents=True)
    (package / '__init__.py').write_text(source)


def test_mmcv_without_ops_is_found_broken(bare_env, site_packages):
    write_package(site_packages, 'mmcv', '')
    write_package(site_packages, 'mmcv/ops', 'from mmcv import _ext')
    assert bare_env.broken('mmcv') is None
    name, error = bare_env.broken('mmcv', 'mmcv.ops', 'absent')
    assert name == 'mmcv.ops'
    assert "cannot import name '_ext'" in error


def test_extension_of_another_torch_is_found_broken(bare_env, site_packages):
    write_package(site_packages, 'mmcv', '')
    write_package(site_packages, 'mmcv/ops', 'from mmcv import _ext')
    code = 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))'
    suffix = bare_env.ask(code).stdout.strip()
    extension = site_packages / f'mmcv/_ext{suffix}'
    extension.write_bytes(b'not a shared library')
    assert 'ImportError' in bare_env.broken('mmcv.ops')[1]


def test_a_module_that_kills_the_interpreter_is_named(bare_env, site_packages):
    write_package(site_packages, 'deadly', 'import os; os._exit(3)')
    write_package(site_packages, 'healthy', 'print("absent")')
    found = bare_env.broken('healthy', 'deadly', 'absent')
    assert found == ('deadly', 'Python crashed')


def test_a_package_that_lost_its_init_file_is_found(bare_env, site_packages):
    (site_packages / 'mmseg').mkdir()
    assert bare_env.broken('mmseg')[0] == 'mmseg'


def test_packages_on_pythonpath_do_not_count(bare_env, tmp_path, monkeypatch):
    write_package(tmp_path / 'elsewhere', 'mmcv', '')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'elsewhere'))
    assert bare_env.broken('mmcv')


def test_a_failed_command_shows_the_end_of_its_output(bare_env):
    code = 'print("what went wrong"); raise SystemExit(3)'
    with pytest.raises(SetupError, match=r'(?s)what went wrong.*setup\.log'):
        bare_env.run('broke', bare_env.python, '-c', code)


@pytest.mark.usefixtures('interruptible')
def test_an_interrupted_set_up_leaves_no_compiler_behind(bare_env, tmp_path):
    pid = tmp_path / 'pid'
    script = f'sleep 60 & echo $! > {pid}.part; mv {pid}.part {pid}; wait'

    def interrupt():
        while not pid.exists():
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        bare_env.run('compiling', 'sh', '-c', script)
    grandchild = Path('/proc', pid.read_text().strip(), 'stat')
    for _ in range(100):
        # Gone, or waiting for somebody to read its exit status.
        if not grandchild.exists() or ' Z ' in grandchild.read_text():
            return
        time.sleep(0.05)
    pytest.fail('the grandchild runs on')


def test_a_second_set_up_waits_for_the_first(tmp_path, capsys):
    order = []

    def second():
        with locked(tmp_path / 'lock'):
            order.append('second')

    thread = threading.Thread(target=second)
    with locked(tmp_path / 'lock'):
        thread.start()
        deadline = time.monotonic() + 60
        while 'waiting for another set-up' not in capsys.readouterr().out:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        order.append('first')
    thread.join(timeout=60)
    assert order == ['first', 'second']
