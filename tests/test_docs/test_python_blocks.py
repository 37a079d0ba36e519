"""The Python that the pages show compiles, and what it imports is there."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from importlib.util import find_spec

import pytest

from mmscope.registry import HOSTS, MODULES

from .pages import PAGES, blocks, name

# The blocks of extend.md run as they stand: test_recipes.py.
FOUND = [
    (name(page), index, block)
    for page in PAGES
    if page.name != 'extend.md'
    for index, block in enumerate(blocks(page, 'python'))
]
TYPES = {kind for table in MODULES.values() for kind in table}


def check_import(node):
    """Check that a statement of the form `from X import Y` works."""
    root = node.module.partition('.')[0]
    if root in HOSTS and find_spec(root) is None:
        pytest.skip(f'needs {root}')
    module = import_module(node.module)
    for alias in node.names:
        assert hasattr(module, alias.name), f'{node.module}: {alias.name}'


@pytest.mark.parametrize(
    'block', [b for *_, b in FOUND], ids=[f'{p}-{i}' for p, i, _ in FOUND]
)
def test_a_block_names_what_there_is(block):
    tree = ast.parse(block)
    for kind in re.findall(r"'mmscope\.(\w+)'", block):
        assert kind in TYPES, f'mmscope.{kind} is not registered'
    try:
        check_imports(tree)
    except ImportError as error:
        if 'mmcv._ext' not in str(error):
            raise
        pytest.skip('this host needs the compiled ops of mmcv')


def check_imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            check_import(node)
