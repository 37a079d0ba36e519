"""A machine without a network is told all that it has to bring."""

import ast
import subprocess
import sys

import pytest

from .pages import ROOT

PAGE = 'docs/gpu_first_minute.md'
# Where a package has another name than what it is imported as.
PACKAGES = {'cv2': 'opencv'}
LIST_OURS = """
import pkgutil, sys
import mmscope.cli.benchmark, mmscope.benchmark.gpu as gpu
for found in pkgutil.walk_packages(gpu.__path__, gpu.__name__ + '.'):
    __import__(found.name)
names = [n for n in sys.modules if n.partition('.')[0] == 'mmscope']
print('files:', *(sys.modules[name].__file__ for name in names), sep='\\n')
"""


def imported(file):
    """Packages that a module imports before it does anything."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def test_the_page_names_every_package_that_its_command_imports():
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    command = [sys.executable, '-c', LIST_OURS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    _, files = done.stdout.split('files:\n')
    roots = {
        name.partition('.')[0]
        for file in files.split()
        if file.endswith('.py')
        for name in imported(ROOT / file)
    }
    theirs = roots - set(sys.stdlib_module_names) - {'mmscope'}
    assert {'msgspec', 'pandas', 'torch'} <= theirs
    page = (ROOT / PAGE).read_text()
    wanted = {PACKAGES.get(name, name) for name in theirs}
    assert sorted(name for name in wanted if name not in page) == []
