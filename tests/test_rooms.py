"""Who may import whom: a room imports itself and the rooms below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mmscope

# Lowest first; rooms of one line do not import each other.
ORDER = (
    ('ops', 'registry', 'errors', 'testing', 'version', 'whole_files'),
    ('models.layers', 'models.necks'),
    ('models.heads', 'models.reduction'),
    ('models.backbones',),
    ('models.scoping',),
    ('models.losses',),
    (
        'models.scopes',
        'models.classifiers',
        'models.segmentors',
        'models.detectors',
    ),
    ('models',),
    ('datasets', 'analysis'),
    ('runtime',),
    ('evaluation',),
    ('engine',),
    ('visualization',),
    ('inference',),
    ('benchmark',),
    ('cli',),
)
LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
# The package itself makes the registries known and imports nothing else.
LEVELS['__init__'] = 1
# Only these may import a host at the top of a module.
HOSTS = {'mmseg', 'mmdet', 'mmpretrain'}
HOST_ROOMS = {
    'models.classifiers': 'mmpretrain',
    'models.segmentors': 'mmseg',
    'models.detectors': 'mmdet',
}
ROOT = Path(mmscope.__file__).parent
FILES = sorted(ROOT.rglob('*.py'))


def room_of(module):
    """The longest known room that the dotted name below mmscope lies in."""
    parts = module.split('.')
    for length in range(len(parts), 0, -1):
        name = '.'.join(parts[:length])
        if name in LEVELS:
            return name
    raise AssertionError(f'mmscope.{module} is in no room of ORDER')


def module_of(path, root):
    parts = path.relative_to(root).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def without_type_checking(tree):
    """Leave out what only type checkers import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.dump(node.test):
            node.body = [ast.Pass()]
    return tree


def imported(node, package):
    """Dotted names that an import statement may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ''
    if node.level:
        above = package[: len(package) - node.level + 1]
        base = '.'.join(filter(None, ['mmscope', *above, base]))
    return [f'{base}.{alias.name}' for alias in node.names]


def violations(path, root):
    """What a file imports although it lies above it or beside it."""
    module = module_of(path, root)
    room = room_of(module or '__init__')
    inner = path.relative_to(root).parent.parts
    for node in ast.walk(without_type_checking(ast.parse(path.read_text()))):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for name in imported(node, inner):
            if name.startswith('mmscope.'):
                other = room_of(name.removeprefix('mmscope.'))
                if other != room and LEVELS[other] >= LEVELS[room]:
                    yield f'{path.name}:{node.lineno} imports {name}'


def host_imports(path, root):
    """Hosts that a module of the models imports, wherever in the file."""
    room = room_of(module_of(path, root) or '__init__')
    for node in ast.walk(without_type_checking(ast.parse(path.read_text()))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name in imported(node, path.relative_to(root).parent.parts):
                host = name.partition('.')[0]
                if host in HOSTS and HOST_ROOMS.get(room) != host:
                    yield f'{path.name}:{node.lineno} imports {name}'


@pytest.mark.parametrize('path', FILES, ids=lambda p: module_of(p, ROOT))
def test_a_room_imports_only_what_lies_below(path):
    assert list(violations(path, ROOT)) == []


@pytest.mark.parametrize(
    'path',
    [p for p in FILES if p.is_relative_to(ROOT / 'models')],
    ids=lambda p: module_of(p, ROOT),
)
def test_a_model_imports_no_host_but_its_own(path):
    assert list(host_imports(path, ROOT)) == []


@pytest.mark.parametrize(
    'statement',
    [
        'from mmscope.engine import ConfidenceGateHook',
        'from mmscope import benchmark',
        'import mmscope.cli.train',
        'from ..scoping import attach_gate',
        'from .. import scoping',
        'def f():\n    from ...evaluation.sweep import sweep',
    ],
)
def test_a_planted_violation_is_seen(tmp_path, statement):
    room = tmp_path / 'models' / 'backbones'
    room.mkdir(parents=True)
    planted = room / 'planted.py'
    planted.write_text(
        'from mmscope.ops import selective_scan\n'
        'from ..layers import observe\n'
        'from .vim import VisionMamba\n'
        f'{statement}\n'
    )
    assert len(list(violations(planted, tmp_path))) == 1


def test_a_planted_host_is_seen(tmp_path):
    room = tmp_path / 'models' / 'segmentors'
    room.mkdir(parents=True)
    planted = room / 'planted.py'
    planted.write_text('import mmseg\nfrom mmdet.models import CascadeRCNN\n')
    assert len(list(host_imports(planted, tmp_path))) == 1
