"""Set-up repeats what is needed, repairs what is broken, compiles last."""

import shutil
import sys
from itertools import pairwise

import pytest
from setup_env import mmcv_wheels, steps
from setup_env.stacks import STACKS, SetupError

FORCED = ['--no-cache-dir', '--force-reinstall', '--no-deps']
NAMES = ['torch', 'mmcv', 'hosts', 'dev', 'mmscope']


@pytest.fixture(autouse=True)
def op_is_built(monkeypatch):
    """The compiled op of the checkout is not what these tests look at."""
    monkeypatch.setattr(steps, 'op_is_there', lambda env: True)


def installs(env, title):
    """Return the arguments after ``pip install`` and its constraints."""
    return [
        command[command.index('install') + 5 :]
        for command in env.commands
        if command[0] == title and 'install' in command
    ]


def test_first_run_does_every_step_in_order(env, wheel):
    assert steps.refresh(env)
    assert env.titles() == NAMES


def test_every_install_is_held_to_the_versions_of_the_stack(env, wheel):
    steps.refresh(env)
    for command in env.commands:
        files = [b for a, b in pairwise(command) if a == '-c']
        names = [name.rpartition('/')[2] for name in files]
        assert names == ['build-onedl.txt', 'onedl.txt']


def test_second_run_installs_nothing(env, wheel):
    steps.refresh(env)
    env.commands.clear()
    assert not steps.refresh(env)
    assert env.commands == []


def test_interrupted_run_goes_on_where_it_was(env, wheel):
    def interrupt(title, command):
        if title == 'hosts':
            raise KeyboardInterrupt

    env.react = interrupt
    with pytest.raises(KeyboardInterrupt):
        steps.refresh(env)
    env.commands.clear()
    env.react = lambda title, command: None
    steps.refresh(env)
    assert env.titles() == ['hosts', 'dev', 'mmscope']


def test_changed_op_sources_rebuild_mmscope_alone(env, wheel, monkeypatch):
    steps.refresh(env)
    env.commands.clear()
    monkeypatch.setattr(steps, 'source_texts', lambda: ('changed',))
    steps.refresh(env)
    assert env.titles() == ['mmscope']


def test_missing_op_rebuilds_mmscope_alone(env, wheel, monkeypatch):
    steps.refresh(env)
    env.commands.clear()
    monkeypatch.setattr(steps, 'op_is_there', lambda env: False)
    steps.refresh(env)
    assert env.titles() == ['mmscope']


def test_broken_mmcv_is_installed_again_from_the_cached_wheel(env, wheel):
    steps.refresh(env)
    env.commands.clear()
    env.broken_modules = {'mmcv.ops'}

    def react(title, command):
        if str(wheel) in command:
            env.broken_modules = set()

    env.react = react
    steps.refresh(env)
    assert env.titles() == ['mmcv']
    assert installs(env, 'mmcv')[0] == [*FORCED, str(wheel)]
    assert wheel.exists()


def test_cached_wheel_that_does_not_load_is_thrown_away(
    env, wheel, monkeypatch
):
    monkeypatch.setattr(mmcv_wheels, 'require_compiler', lambda python: None)
    env.broken_modules = {'mmcv.ops'}
    compiled = wheel.with_name('onedl_mmcv-2.3.6-cp311-new.whl')

    def react(title, command):
        if 'download' in command:
            source = wheel.parent / 'scratch/onedl_mmcv-2.3.6'
            source.mkdir()
            (source / 'setup.py').touch()
            pack(source)
        if 'wheel' in command:
            compiled.touch()
        if str(compiled) in command:
            env.broken_modules = set()

    env.react = react
    steps.refresh(env)
    assert not wheel.exists()
    assert compiled.exists()
    assert [*FORCED, str(compiled)] in installs(env, 'mmcv')
    build = next(c for c in env.commands if 'wheel' in c)
    assert '--no-build-isolation' in build
    assert '--no-cache-dir' in build


def pack(source):
    """Replace a source folder by its archive, as pip downloads it."""
    name = str(source)
    shutil.make_archive(name, 'gztar', source.parent, source.name)
    shutil.rmtree(source)


def test_new_build_that_does_not_load_is_an_error(env, wheel, monkeypatch):
    env.broken_modules = {'mmcv.ops'}
    monkeypatch.setattr(
        mmcv_wheels.MmcvWheels, 'build', lambda self: wheel_again(wheel)
    )
    with pytest.raises(SetupError, match='undefined symbol'):
        steps.refresh(env)
    assert not wheel.exists()


def wheel_again(wheel):
    """Put a wheel where a thrown away one was."""
    wheel.touch()
    return wheel


def test_missing_system_library_does_not_cost_the_wheel(env, wheel):
    env.broken_modules = {'mmcv.ops', 'cv2'}
    with pytest.raises(SetupError, match='apt install libgl1'):
        steps.refresh(env)
    assert wheel.exists()


def test_broken_host_is_written_again_without_touching_mmcv(env, wheel):
    steps.refresh(env)
    env.commands.clear()
    env.broken_modules = {'mmdet.models'}
    env.react = lambda title, command: env.broken_modules.clear()
    steps.refresh(env)
    assert env.titles() == ['hosts']
    repaired = installs(env, 'hosts')[0]
    assert 'onedl-mmdetection==3.5.1' in repaired
    assert not any('mmcv' in word for word in repaired)


def test_host_that_still_fails_is_an_error_with_its_reason(env, wheel):
    env.broken_modules = {'mmdet.models'}
    with pytest.raises(SetupError, match='mmdet.models: ImportError: undef'):
        steps.refresh(env)


def test_packages_of_the_other_stack_are_removed(env, wheel):
    env.strangers = ['mmcv', 'mmdet']
    steps.refresh(env)
    assert env.commands[0][-4:] == ['uninstall', '-y', 'mmcv', 'mmdet']


def test_mmengine_that_went_with_the_other_stack_comes_back(env, wheel):
    steps.refresh(env)
    env.commands.clear()
    env.strangers = ['mmengine']
    env.broken_modules = {'mmcv.ops', 'mmengine'}

    def react(title, command):
        if '--force-reinstall' in command and any(
            'onedl-mmengine==' in word for word in command
        ):
            env.broken_modules = set()

    env.react = react
    steps.refresh(env)
    assert env.titles() == ['foreign', 'mmcv']
    assert wheel.exists()


def test_without_wheel_or_compiler_nothing_is_downloaded(env, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    monkeypatch.setattr(type(env), 'python', sys.executable)
    with pytest.raises(SetupError, match='no C\\+\\+ compiler'):
        steps.refresh(env)
    assert env.commands == []


def test_full_disk_is_said_before_the_download(env, wheel, monkeypatch):
    usage = type('Usage', (), {'free': 3e9})
    monkeypatch.setattr(steps.shutil, 'disk_usage', lambda path: usage)
    env.broken_modules = {'torch'}
    with pytest.raises(SetupError, match='3.0 GB are free'):
        steps.refresh(env)


def test_environment_of_another_python_is_not_replaced(bare_env, tmp_path):
    other = '3 12' if sys.version_info[:2] != (3, 12) else '3 11'
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\necho {other}\n')
    python.chmod(0o755)
    with pytest.raises(SetupError, match='asks for another'):
        steps.prepare(bare_env, str(python))
    assert bare_env.python.exists()


@pytest.fixture
def without_ops(env):
    env.ops = False
    return env


@pytest.mark.parametrize(
    ('stack', 'needing'),
    [('onedl', {'mmdet'}), ('openmmlab', {'mmdet', 'mmseg'})],
)
def test_without_ops_nothing_is_compiled_and_who_needs_them_is_not_asked(
    without_ops, stack, needing
):
    stack = without_ops.stack = STACKS[stack]
    without_ops.broken_modules = {f'{host}.models' for host in needing}
    assert steps.refresh(without_ops)
    assert without_ops.titles() == NAMES
    first = installs(without_ops, 'mmcv')[0]
    # An isolated build sees no torch; its tools are those of the stack.
    build = ['--build-constraint', str(stack.build_file)]
    assert first == [*FORCED, *build, stack.mmcv_requirement]


def test_ops_that_are_there_stay(env, wheel):
    steps.refresh(env)
    env.commands.clear()
    env.ops = False
    steps.keep_ops(env)
    assert env.ops
    assert not steps.refresh(env)


def test_ops_are_added_to_an_environment_without_them(without_ops, wheel):
    steps.refresh(without_ops)
    steps.keep_ops(without_ops)
    assert not without_ops.ops
    without_ops.commands.clear()
    without_ops.ops = True
    steps.refresh(without_ops)
    assert without_ops.titles() == ['mmcv']
    assert [*FORCED, str(wheel)] in installs(without_ops, 'mmcv')
