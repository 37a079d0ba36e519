import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mmscope

TYPES = {
    'model': [
        'CoarseToFineClassifier',
        'CoarseToFineClsHead',
        'DistilledClassifier',
        'DyVM',
        'EarlyExitCascadeRCNN',
        'EarlyExitEncoderDecoder',
        'HiddenAlign',
        'LN2d',
        'MambaReg',
        'MambaRegScope',
        'MambaScope',
        'MultiLabelExitHead',
        'OneMaskCascadeRoIHead',
        'RMeeTo',
        'SimpleFPN',
        'TokenViT',
        'ViTScope',
        'VideoMamba',
        'VideoMambaScope',
        'VisionMamba',
    ],
    'hook': [
        'ConfidenceGateHook',
        'InformativeSelectionHook',
        'TokenReductionHook',
    ],
    'metric': ['EarlyExitMetric', 'TokenReductionMetric'],
    'optimizer wrapper constructor': [
        'LayerDecayOptimWrapperConstructor',
        'OptimWrapperConstructor',
    ],
}
ALL = [(room, name) for room, names in TYPES.items() for name in names]
# mmpretrain has an equal layer of the same name, and a host's own names win.
SHADOWED = {('mmpretrain', 'LN2d')}
RESOLVE = """
import sys
from mmengine.registry import init_default_scope, root
from mmengine.config import Config
scope, prefix, imports = sys.argv[1:4]
if imports:
    Config(dict(custom_imports=dict(imports=['mmscope'])))
    from mmengine.utils import import_modules_from_strings
    import_modules_from_strings(['mmscope'])
init_default_scope(scope)
rooms = {r.name: r for r in vars(root).values() if hasattr(r, 'module_dict')}
for item in sys.argv[4:]:
    room, name = item.split('/')
    with rooms[room].switch_scope_and_registry(None) as registry:
        found = registry.get(prefix + name)
    assert found is not None and found.__name__ == name, item
"""


def in_fresh_process(code, *args):
    done = subprocess.run(
        [sys.executable, '-c', code, *args], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet', 'mmpretrain'])
@pytest.mark.parametrize('how', ['prefix', 'custom_imports'])
def test_types_resolve_under_every_default_scope(scope, how):
    items = [
        f'{room}/{name}'
        for room, name in ALL
        if how == 'prefix' or (scope, name) not in SHADOWED
    ]
    args = ('mmscope.', '') if how == 'prefix' else ('', 'yes')
    in_fresh_process(RESOLVE, scope, *args, *items)


def test_the_core_needs_torch_and_mmengine_alone():
    in_fresh_process("""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'mmseg', 'mmdet', 'mmpretrain', 'mmcv',
                                  'mamba_ssm', 'timm', 'torchvision'}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import importlib.util
real = importlib.util.find_spec
def find_spec(name, package=None):
    try:
        return real(name, package)
    except ModuleNotFoundError:
        return None
importlib.util.find_spec = find_spec
import mmscope
from mmscope.models import MambaScope
import torch
model = MambaScope(arch=dict(embed_dims=16, num_layers=2), img_size=64)
model.eval()(torch.zeros(1, 3, 64, 64))
""")


ROOMS = {
    'ops': set(),
    'models/layers': {'mmscope.ops'},
    'models/heads': {'mmscope.registry'},
    'models/necks': {'mmscope.registry'},
    'models/reduction': {'mmscope.models.layers', 'mmscope.registry'},
    'models/backbones': {
        'mmscope.models.layers',
        'mmscope.models.reduction',
        'mmscope.registry',
    },
    'models/scoping': {
        'mmscope.models.layers',
        'mmscope.models.heads',
        'mmscope.models.backbones',
        'mmscope.registry',
    },
    'benchmark': {
        'mmscope.analysis',
        'mmscope.runtime',
        'mmscope.evaluation',
        'mmscope.models',
        'mmscope.ops',
        'mmscope.testing',
        'mmscope.visualization',
    },
}


def without_type_checking(tree):
    """Leave out what only type checkers import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.dump(node.test):
            node.body = [ast.Pass()]
    return tree


@pytest.mark.parametrize('room', ROOMS)
def test_rooms_import_only_what_lies_below(room):
    root = Path(mmscope.__file__).parent
    allowed = ROOMS[room] | {f'mmscope.{room.replace("/", ".")}'}
    for path in (root / room).rglob('*.py'):
        for node in ast.walk(
            without_type_checking(ast.parse(path.read_text()))
        ):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                ours = name.startswith('mmscope')
                host = name.split('.')[0] in {'mmseg', 'mmdet', 'mmpretrain'}
                assert not host, f'{path}: {name}'
                assert not ours or name.startswith(tuple(allowed)), (
                    f'{path}: {name}'
                )


def test_no_room_imports_the_benchmark():
    root = Path(mmscope.__file__).parent
    for path in root.rglob('*.py'):
        if (root / 'benchmark') not in path.parents:
            assert 'mmscope.benchmark' not in path.read_text(), path
