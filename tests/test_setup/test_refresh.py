"""Set-up installs what is missing, repairs what is broken, compiles last."""

import json
import os
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from setup_env import __main__ as setup
from setup_env import mmcv
from setup_env.stacks import STACKS, SetupError

MMCV = 'onedl-mmcv==2.3.6'
ROOT = Path(__file__).resolve().parents[2]
EXACT = ('--no-cache-dir', '--force-reinstall', '--no-deps')


@pytest.fixture(autouse=True)
def package(monkeypatch):
    """What is built in this checkout is the subject of one test alone."""
    actual = setup.install_package
    monkeypatch.setattr(setup, 'install_package', lambda env: None)
    return actual


@pytest.fixture
def with_ops(env, wheel):
    """An environment that was set up with ops from a cached wheel."""
    env.ops = True
    setup.refresh(env)
    env.commands.clear()
    return env


def test_pip_compares_everything_with_the_versions_of_the_stack(env):
    setup.refresh(env)
    torch, hosts, last = env.commands
    assert torch[-1].endswith('requirements/build-onedl.txt')
    assert {'onedl-mmsegmentation==1.4.2', 'onedl-mmengine==0.10.12'} <= {
        *hosts
    }
    assert last[-1] == MMCV
    for command in env.commands:
        files = [b for a, b in pairwise(command) if a == '-c']
        names = [name.rpartition('/')[2] for name in files]
        assert names == ['build-onedl.txt', 'onedl.txt']
    assert str(ROOT / 'requirements/runtime.txt') in hosts


@pytest.mark.parametrize(
    ('name', 'needing'),
    [('onedl', {'mmdet'}), ('openmmlab', {'mmdet', 'mmseg'})],
)
def test_without_ops_nothing_is_compiled_and_who_needs_them_is_not_asked(
    name, needing, env
):
    stack = env.stack = STACKS[name]
    pin = stack.requirements()[stack.mmcv]
    env.bad = {'mmcv.ops', *(f'{host}.models' for host in needing)}
    setup.refresh(env)
    (install,) = env.said(*EXACT, pin)
    # An isolated build sees no torch; its tools are those of the stack.
    assert '--no-build-isolation' not in install
    assert install[-3:-1] == ['--build-constraint', str(stack.file('build-'))]
    env.commands.clear()
    setup.refresh(env)
    assert not env.said(pin)


def test_ops_come_from_the_cached_wheel_and_replace_mmcv_without(env, wheel):
    setup.refresh(env)
    env.ops = True
    setup.refresh(env)
    assert env.said(*EXACT, str(wheel))
    env.commands.clear()
    setup.refresh(env)
    assert not env.said(str(wheel))


def test_broken_mmcv_is_installed_again_from_the_cached_wheel(with_ops, wheel):
    with_ops.bad, with_ops.cures = {'mmcv.ops'}, {str(wheel)}
    setup.refresh(with_ops)
    assert with_ops.said('uninstall', 'onedl-mmcv')
    assert with_ops.said(*EXACT, str(wheel))
    assert wheel.exists()


def test_a_wheel_that_does_not_load_is_compiled_anew(env, wheel, monkeypatch):
    new = wheel.with_name('onedl_mmcv-2.3.6-new.whl')
    env.ops, env.bad, env.cures = True, {'mmcv.ops'}, {str(new)}
    monkeypatch.setattr(mmcv, 'compile_wheel', lambda *_: touched(new))
    setup.refresh(env)
    assert not wheel.exists()
    assert env.said(*EXACT, str(new))


def touched(path):
    path.touch()
    return path


@pytest.fixture
def refusing(env, wheel, monkeypatch):
    """A pip that refuses the cached wheel, which was cut off."""
    run = env.run

    def refuse(title, *command, **options):
        if command[-1] == wheel and not wheel.read_text():
            raise SetupError(f'ERROR: Wheel {wheel} is invalid.')
        run(title, *command, **options)

    env.ops = True
    monkeypatch.setattr(env, 'run', refuse)


def test_a_wheel_that_pip_refuses_is_compiled_anew(
    env, wheel, refusing, monkeypatch, capsys
):
    def compile_wheel(env, folder):
        wheel.write_text('whole')
        return wheel

    monkeypatch.setattr(mmcv, 'compile_wheel', compile_wheel)
    setup.refresh(env)
    assert env.said(*EXACT, str(wheel))
    assert 'is invalid' in capsys.readouterr().out


def test_a_wheel_stays_until_there_is_a_better_one(
    env, wheel, refusing, monkeypatch
):
    def full(env, folder):
        raise SetupError('No space left on device')

    monkeypatch.setattr(mmcv, 'compile_wheel', full)
    with pytest.raises(SetupError, match='No space left'):
        setup.refresh(env)
    # Perhaps a full disk was why pip refused it.
    assert wheel.exists()


def test_a_new_build_that_does_not_load_is_an_error(env, wheel, monkeypatch):
    env.ops, env.bad = True, {'mmcv.ops'}
    monkeypatch.setattr(mmcv, 'compile_wheel', lambda *_: touched(wheel))
    with pytest.raises(SetupError, match='newly built.*undefined symbol'):
        setup.refresh(env)
    assert not wheel.exists()


def test_a_missing_system_library_does_not_cost_the_wheel(env, wheel):
    env.ops, env.bad = True, {'cv2', 'mmcv.ops'}
    with pytest.raises(SetupError, match=r'cv2 .*apt install libgl1'):
        setup.refresh(env)
    assert wheel.exists()


@pytest.fixture
def source(env, wheel, monkeypatch):
    """Where mmcv is compiled by a pip that downloads and builds nothing."""
    monkeypatch.setattr(mmcv, 'require_compiler', lambda python: None)
    wheel.unlink()
    source = wheel.with_name('source-2.3.6')
    packed = env.folder.parent / 'onedl_mmcv-2.3.6'
    packed.mkdir()
    (packed / 'setup.py').touch()

    def run(title, *command, **options):
        env.commands.append([str(word) for word in command])
        if 'download' in command:
            scratch = command[command.index('-d') + 1]
            scratch.mkdir(exist_ok=True)
            name = str(scratch / packed.name)
            shutil.make_archive(name, 'gztar', packed.parent, packed.name)
        else:
            assert (source / 'setup.py').exists()
            folder = command[command.index('-w') + 1]
            folder.mkdir(exist_ok=True)
            (folder / wheel.name).write_text('new')

    env.run = run
    return source


@pytest.mark.parametrize('begun', [False, True])
def test_an_interrupted_build_goes_on_where_it_was(begun, env, wheel, source):
    if begun:
        source.mkdir()
        (source / 'setup.py').touch()
    assert mmcv.compile_wheel(env, source.parent) == wheel
    assert bool(env.said('download', '--no-binary', MMCV)) is not begun
    assert env.said('wheel', '--no-build-isolation', str(source))
    assert list(source.parent.iterdir()) == [wheel]
    assert wheel.read_text() == 'new'


def test_half_a_wheel_is_never_where_others_look(env, wheel, source):
    run = env.run

    def killed(title, *command, **options):
        run(title, *command, **options)
        if 'wheel' in command:
            raise KeyboardInterrupt

    env.run = killed
    with pytest.raises(KeyboardInterrupt):
        mmcv.compile_wheel(env, source.parent)
    assert mmcv.compiled(env, source.parent.name) == []
    env.run = run
    assert mmcv.compile_wheel(env, source.parent) == wheel
    assert list(source.parent.iterdir()) == [wheel]


def test_half_removed_sources_are_not_gone_on_with(
    env, wheel, source, monkeypatch
):
    remove = shutil.rmtree

    def killed(folder, **options):
        for file in Path(folder).rglob('setup.py'):
            file.unlink()
            raise KeyboardInterrupt
        remove(folder, **options)

    monkeypatch.setattr(mmcv.shutil, 'rmtree', killed)
    with pytest.raises(KeyboardInterrupt):
        mmcv.compile_wheel(env, source.parent)
    monkeypatch.undo()
    assert wheel.exists()
    assert not source.exists()


def test_a_broken_host_is_written_again_without_touching_mmcv(with_ops):
    with_ops.have('onedl_mmdetection-3.5.1')
    with_ops.bad = {'mmdet.models'}
    with_ops.cures = {'onedl-mmdetection'}
    setup.refresh(with_ops)
    assert not with_ops.records('onedl-mmdetection')
    gone = with_ops.said('uninstall', 'onedl-mmdetection')[0]
    later = with_ops.commands[with_ops.commands.index(gone) :]
    assert any('onedl-mmdetection==3.5.1' in words for words in later)
    assert not with_ops.said('uninstall', 'onedl-mmcv')


def test_what_still_fails_is_an_error_with_its_reason(env):
    env.bad = {'mmseg.models'}
    with pytest.raises(SetupError, match='mmseg.models .*undefined symbol'):
        setup.refresh(env)


def test_the_other_stack_goes_and_what_it_overwrote_is_written_again(
    with_ops, wheel
):
    for name in ('mmcv-2.1.0', 'mmengine-0.10.7', 'onedl_mmengine-0.10.12'):
        with_ops.have(name)
    setup.refresh(with_ops)
    gone = ('mmcv', 'mmengine', 'onedl-mmcv', 'onedl-mmengine')
    assert all(with_ops.said('uninstall', name) for name in gone)
    assert with_ops.said(*EXACT, str(wheel))
    assert not with_ops.records('mmengine')


def test_without_wheel_or_compiler_nothing_is_downloaded(env, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    env.ops = True
    with pytest.raises(SetupError, match=r'no-such-compiler.*install g\+\+'):
        setup.refresh(env)
    assert env.commands == []


def test_a_full_disk_is_said_before_the_download(env, monkeypatch):
    usage = type('Usage', (), {'free': 3e9})
    monkeypatch.setattr(setup.shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(SetupError, match='3.0 GB are free'):
        setup.refresh(env)
    assert env.commands == []


def test_the_package_is_installed_where_absent_stale_or_of_another_checkout(
    env, package, tmp_path, monkeypatch
):
    monkeypatch.setattr(setup, 'OP_FOLDER', tmp_path)
    (tmp_path / 'csrc').mkdir()
    source, op = tmp_path / 'csrc/ops.cpp', tmp_path / '_C_torch212.abi3.so'
    origin = env.site / 'mmscope-0.1.0.dist-info/direct_url.json'
    for path in (source, tmp_path / 'build.py', op):
        path.touch()
    env.have('torch-2.12.1')

    def installs():
        env.commands.clear()
        package(env)
        return bool(env.said('-e', str(ROOT)))

    assert installs()
    env.have('mmscope-0.1.0')
    ours = {'dir_info': {'editable': True}, 'url': ROOT.as_uri()}
    origin.write_text(json.dumps(ours))
    assert not installs()
    os.utime(source, (4e9, 4e9))
    assert installs()
    os.utime(source, (1e9, 1e9))
    op.unlink()
    assert installs()
    op.touch()
    assert not installs()
    for other in ({'url': 'file:///another/checkout'}, {'dir_info': {}}):
        origin.write_text(json.dumps({**ours, **other}))
        assert installs()


def test_an_environment_of_another_python_is_not_replaced(
    bare_env, site_packages, tmp_path
):
    (site_packages / 'pip-24.0.dist-info').mkdir()
    (site_packages / 'pip-24.0.dist-info/RECORD').touch()
    other = '3.12' if sys.version_info[:2] != (3, 12) else '3.11'
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\necho {other}\n')
    python.chmod(0o755)
    with pytest.raises(SetupError, match='is another'):
        setup.prepare(bare_env, str(python))
    assert bare_env.python.exists()


def test_an_environment_whose_making_was_interrupted_is_made_again(
    bare_env, site_packages
):
    (site_packages / 'pip').mkdir()
    made = []
    bare_env.run = lambda title, *command: made.append(command)
    setup.prepare(bare_env, None)
    ((python, *words),) = made
    assert words == ['-m', 'venv', bare_env.folder]
    assert not python.startswith(str(bare_env.folder))
    assert not site_packages.exists()


def test_a_folder_that_is_no_environment_is_left_alone(bare_env, tmp_path):
    bare_env.folder = tmp_path / 'mine'
    bare_env.python = tmp_path / 'mine/bin/python'
    bare_env.folder.mkdir()
    (bare_env.folder / 'thesis.tex').touch()
    with pytest.raises(SetupError, match='is left alone'):
        setup.prepare(bare_env, sys.executable)
    assert (bare_env.folder / 'thesis.tex').exists()
