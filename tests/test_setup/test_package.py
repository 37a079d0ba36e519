"""The package installs without a host, and builds its op for any torch."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from setup_env.stacks import STACKS, plain_name

ROOT = Path(__file__).resolve().parents[2]
# By torch, by a stack and what it needs, by import name.
BROUGHT = {
    *('torch', 'triton', 'typing_extensions', 'psutil'),
    *('mmengine', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain'),
    *('numpy', 'matplotlib', 'yaml', 'cv2', 'PIL', 'pycocotools'),
}
# Each is refused by name, with the command, where it is absent.
OPTIONAL = {'mamba_ssm', 'pyarrow', 'ray', 'huggingface_hub', 'gradio'}

# Hides packages as if they were not installed: `find_spec` sees None, too.
HIDE = """
import importlib.machinery, sys
hidden = ('mmcv', 'mmseg', 'mmdet', 'mmpretrain')
find = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    if name.split('.')[0] in hidden:
        return None
    return find(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
"""


@pytest.fixture
def setup_arguments(monkeypatch):
    """Return a function that runs setup.py and returns what it passes on."""
    monkeypatch.chdir(ROOT)

    def read():
        passed = {}
        monkeypatch.setattr(setuptools, 'setup', lambda **k: passed.update(k))
        runpy.run_path(str(ROOT / 'setup.py'))
        return passed

    return read


def run_hidden(code, tmp_path):
    """Run code in a fresh interpreter that has no host package."""
    return subprocess.run(
        [sys.executable, '-c', HIDE + code],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_hiding_works(tmp_path):
    process = run_hidden('import mmcv', tmp_path)
    assert 'ModuleNotFoundError' in process.stderr


def test_import_needs_torch_and_mmengine_alone(tmp_path):
    code = (
        'import mmscope\n'
        'from mmscope.registry import MODELS\n'
        "assert MODELS.get('mmscope.MambaScope'), 'backbone is missing'\n"
    )
    process = run_hidden(code, tmp_path)
    assert process.returncode == 0, process.stderr


def required(setup_arguments):
    """Return the names of what pip installs with the package."""
    texts = setup_arguments()['install_requires']
    return {plain_name(text) for text in texts}


def test_no_stack_is_a_hard_requirement(setup_arguments):
    names = required(setup_arguments)
    assert 'torch' in names
    assert names.isdisjoint(h for s in STACKS.values() for h in s.hosts)


def imported(path):
    """Yield the packages that a module names, wherever it imports them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition('.')[0]


def test_what_the_package_imports_comes_with_it_or_with_a_stack(
    setup_arguments,
):
    found = {n for p in (ROOT / 'mmscope').rglob('*.py') for n in imported(p)}
    known = {*sys.stdlib_module_names, *BROUGHT, *OPTIONAL, 'mmscope'}
    assert found - known <= required(setup_arguments)


def test_extras_hold_one_stack_each(setup_arguments):
    extras = {
        name: {Requirement(text).name for text in texts}
        for name, texts in setup_arguments()['extras_require'].items()
    }
    stacks = {'onedl', 'openmmlab'}
    optional = {'cuda', 'infer', 'ray', 'hub', 'page', 'dev'}
    assert set(extras) == stacks | optional
    assert {'onedl-mmcv', 'onedl-mmengine'} <= extras['onedl']
    assert {'mmcv', 'mmengine'} <= extras['openmmlab']
    assert not any(name.startswith('onedl') for name in extras['openmmlab'])
    assert 'mmcv' not in extras['onedl']


def test_all_places_name_the_same_pythons(setup_arguments):
    pythons = sorted(STACKS['onedl'].pythons)
    passed = setup_arguments()
    classifiers = ' '.join(passed['classifiers'])
    named = re.findall(r'Python :: 3\.(\d+)', classifiers)
    assert [(3, int(minor)) for minor in named] == pythons
    allowed = SpecifierSet(passed['python_requires'])
    assert [(3, v) for v in range(30) if f'3.{v}.1' in allowed] == pythons
    first, last = (f'{a}.{b}' for a, b in (pythons[0], pythons[-1]))
    for page in ('README.md', 'docs/get_started.md'):
        words = ' '.join((ROOT / page).read_text().split())
        assert f'Python {first} to {last}' in words


def test_op_is_named_after_torch_and_built_for_any_processor(
    setup_arguments,
):
    if shutil.which(os.environ.get('CXX') or 'c++') is None:
        pytest.skip('there is no C++ compiler')
    (extension,) = setup_arguments()['ext_modules']
    major, minor = torch.__version__.split('.')[:2]
    assert extension.name == f'mmscope.ops._C_torch{major}{minor}'
    flags = str(extension.extra_compile_args)
    assert extension.py_limited_api
    assert '-march' not in flags
    assert '-fopenmp' in flags


def test_without_torch_it_installs_and_says_so(
    setup_arguments, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, 'torch', None)
    assert 'ext_modules' not in setup_arguments()
    assert 'WITHOUT its compiled scan' in capsys.readouterr().err


def test_without_compiler_it_installs_and_says_so(
    setup_arguments, monkeypatch, capsys
):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    assert 'ext_modules' not in setup_arguments()
    assert 'there is no C++ compiler' in capsys.readouterr().err


def made(target, stack):
    """Return the commands that make would run."""
    # The make that runs these tests hands its own variables down.
    hidden = (
        *('MAKEFLAGS', 'MAKEOVERRIDES', 'MAKELEVEL', 'MFLAGS'),
        *('VENV', 'PYTHON', 'STACK', 'OPS'),
    )
    return subprocess.run(
        ['make', '-n', target, f'STACK={stack}'],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k not in hidden},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


@pytest.mark.parametrize(('stack', 'ops'), [('onedl', 0), ('openmmlab', 1)])
def test_the_demo_compiles_ops_where_mmsegmentation_needs_them(stack, ops):
    if shutil.which('make') is None:
        pytest.skip('there is no make')
    lines = made('demo', stack)
    assert f' OPS={ops} ' in lines[0]


@pytest.mark.parametrize('stack', ['onedl', 'openmmlab'])
def test_make_test_sets_up_checks_style_and_ends_with_pytest(stack):
    if shutil.which('make') is None:
        pytest.skip('there is no make')
    lines = made('test', stack)
    commands = [line for line in lines if not line.startswith('make')]
    assert f'STACK={stack}' in commands[0]
    mypy = [[f'.venv-{stack}/bin/mypy']] if stack == 'onedl' else []
    assert [line.split()[:2] for line in commands[1:]] == [
        [f'.venv-{stack}/bin/ruff', 'check'],
        [f'.venv-{stack}/bin/ruff', 'format'],
        *mypy,
        [f'.venv-{stack}/bin/python', '-m'],
    ]
    assert 'pytest -n auto' in commands[-1]
