import ast
import json
import re
from pathlib import Path

import pytest
from builders.fresh import run_fresh

import mmscope
from mmscope.registry import HOSTS, MODULES

ALL = [
    (registry.name, name)
    for registry, modules in MODULES.items()
    for name in modules
]
HEAVY = {
    *('mmseg', 'mmdet', 'mmpretrain', 'mmcv', 'cv2'),
    *('matplotlib', 'pycocotools', 'pandas', 'scipy', 'torchvision'),
}
# A host's own names win: an equal layer, and the data set that ours checks.
SHADOWED = {('mmpretrain', 'LN2d'), ('mmseg', 'ADE20KDataset')}
RESOLVE = """
import sys
from mmengine.registry import init_default_scope, root
from mmengine.config import Config
scope, prefix, imports, shadowed = sys.argv[1:5]
shadowed = shadowed == 'shadowed'
if imports:
    Config(dict(custom_imports=dict(imports=['mmscope'])))
    from mmengine.utils import import_modules_from_strings
    import_modules_from_strings(['mmscope'])
init_default_scope(scope)
rooms = {r.name: r for r in vars(root).values() if hasattr(r, 'module_dict')}
for item in sys.argv[5:]:
    room, name = item.split('/')
    with rooms[room].switch_scope_and_registry(None) as registry:
        found = registry.get(prefix + name)
    assert found is not None, item
    assert shadowed or found.__name__ == name, item
    assert found.__module__.startswith('mmscope.') is not shadowed, item
"""


def in_fresh_process(code, *args):
    error = run_fresh(code, *args)
    assert not error, error


# Imports the hosts once; each default scope is a copy of that process.
IN_COPIES = """
import importlib, json, os, sys, traceback
code, cells = sys.argv[1], json.loads(sys.argv[2])
for host in ('mmseg', 'mmdet', 'mmpretrain'):
    importlib.import_module(host + '.models')
failed = []
for cell in cells:
    child = os.fork()
    if not child:
        sys.argv[1:] = cell
        try:
            exec(code, {'__name__': '__main__'})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(cell[:3])
assert not failed, failed
"""


def cell(scope, how):
    """Arguments of ``RESOLVE``."""
    items = [
        f'{room}/{name}'
        for room, name in ALL
        if how == 'prefix' or (scope, name) not in SHADOWED
    ]
    return [
        scope,
        *(('mmscope.', '') if how == 'prefix' else ('', 'yes')),
        'ours',
        *items,
    ]


def needs_all_hosts():
    for host in HOSTS:
        pytest.importorskip(f'{host}.models')


def test_types_resolve_under_every_default_scope():
    needs_all_hosts()
    ways = ('prefix', 'custom_imports')
    cells = [cell(scope, how) for scope in HOSTS for how in ways]
    in_fresh_process(IN_COPIES, RESOLVE, json.dumps(cells))


def test_types_resolve_where_nothing_was_imported_before():
    needs_all_hosts()
    in_fresh_process(RESOLVE, *cell('mmdet', 'prefix'))


@pytest.mark.parametrize(('scope', 'name'), sorted(SHADOWED))
def test_a_plain_name_that_a_host_has_is_the_host_s(scope, name):
    pytest.importorskip(f'{scope}.models')
    (room,) = (room for room, known in ALL if known == name)
    item = f'{room}/{name}'
    in_fresh_process(RESOLVE, scope, '', 'yes', 'shadowed', item)
    page = Path(__file__).parents[1] / 'docs/hosts.md'
    assert f'`{name}` under {scope}' in ' '.join(page.read_text().split())


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


def registered_types():
    """(registry, class, module) of every register_module in the package."""
    root = Path(mmscope.__file__).parent
    for path in root.rglob('*.py'):
        text = path.read_text()
        if path.name == 'registry.py' or 'register_module()' not in text:
            continue
        module = '.'.join(('mmscope', *path.relative_to(root).parts))[:-3]
        for node in ast.parse(text).body:
            for mark in getattr(node, 'decorator_list', ()):
                found = re.match(r'(\w+)\.register_module', ast.unparse(mark))
                if found:
                    yield found[1], node.name, module


def test_the_table_of_types_is_what_registers_itself():
    names = {
        id(registry): name
        for name, registry in vars(mmscope.registry).items()
        if name.isupper()
    }
    table = {
        (names[id(registry)], name, module)
        for registry, modules in MODULES.items()
        for name, module in modules.items()
    }
    assert set(registered_types()) == table


@pytest.mark.parametrize(
    ('statement', 'allowed'),
    [
        ('import mmscope', set()),
        ('import mmscope.models', set()),
        ('import mmscope.ops', set()),
        # MMEngine's runner and visualizer need these.
        ('import mmscope.engine', {'cv2', 'pandas', 'scipy', 'matplotlib'}),
        ('import mmscope.datasets', {'cv2', 'matplotlib'}),
    ],
)
def test_an_import_loads_no_host(statement, allowed):
    in_fresh_process(
        f"""
import sys
{statement}
loaded = {{name for name in {HEAVY - allowed!r} if name in sys.modules}}
assert not loaded, loaded
"""
    )


BREAK = """
import sys
class Break:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise ModuleNotFoundError('No module named ' + name, name=name)
sys.meta_path.insert(0, Break())
"""


@pytest.mark.parametrize('broken', ['mmdet', 'mmcv._ext', 'pycocotools'])
def test_a_segmentor_does_not_ask_for_the_detection_host(broken):
    pytest.importorskip('mmseg.models')
    error = run_fresh(
        BREAK.format(module=broken)
        + """
try:
    import mmseg.models
except ImportError:
    raise SystemExit('the host asks')
import mmscope
from mmengine.registry import MODELS
assert MODELS.get('EarlyExitEncoderDecoder').__name__
from mmscope.datasets import ADE20KDataset
"""
    )
    if error.strip().endswith('SystemExit: the host asks'):
        pytest.skip(f'mmsegmentation itself asks for {broken}')
    assert not error, error


@pytest.mark.parametrize(
    ('broken', 'name', 'package'),
    [
        ('mmdet', 'EarlyExitCascadeRCNN', 'mmdetection'),
        ('mmseg', 'EarlyExitEncoderDecoder', 'mmsegmentation'),
        ('mmpretrain', 'CoarseToFineClassifier', 'mmpretrain'),
        ('mmcv', 'CoarseToFineClassifier', 'mmcv'),
    ],
)
def test_a_missing_host_is_named_with_what_to_install(broken, name, package):
    in_fresh_process(
        BREAK.format(module=broken)
        + f"""
import mmscope
from mmengine.registry import MODELS
for ask in (
    lambda: getattr(mmscope.models, {name!r}),
    lambda: MODELS.get({name!r}),
    lambda: MODELS.get('mmscope.' + {name!r}),
):
    try:
        ask()
    except ImportError as error:
        assert {name!r} + ' needs {package}' in str(error), error
        # A command for one stack would overwrite the other.
        assert 'mmscope doctor' in str(error)
        assert 'pip install' not in str(error)
    else:
        raise AssertionError('imported')
"""
    )


def test_a_name_that_another_package_took_stays_theirs_with_a_warning():
    in_fresh_process("""
import warnings
from mmengine.registry import MODELS
@MODELS.register_module()
class MambaScope:
    pass
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    import mmscope
(told,) = [str(w.message) for w in caught if 'registered' in str(w.message)]
assert "ours is 'mmscope.MambaScope'" in told, told
assert MODELS.get('MambaScope') is MambaScope
assert MODELS.get('mmscope.MambaScope').__module__ == 'mmscope.models.scopes'
assert MODELS.get('VisionMamba').__module__.startswith('mmscope')
""")


def test_a_host_that_refuses_its_own_packages_is_named():
    in_fresh_process(
        """
import sys, types
from pathlib import Path
import tempfile
folder = Path(tempfile.mkdtemp())
(folder / 'mmseg').mkdir()
text = 'assert False, "MMCV==9 is used but incompatible"'
(folder / 'mmseg/__init__.py').write_text(text)
sys.path.insert(0, str(folder))
import mmscope.models
try:
    mmscope.models.EarlyExitEncoderDecoder
except ImportError as error:
    assert 'needs mmsegmentation' in str(error), error
    assert 'MMCV==9 is used but incompatible' in str(error)
else:
    raise AssertionError('imported')
"""
    )


def test_a_star_import_needs_no_host_and_dir_names_all_types():
    in_fresh_process(
        BREAK.format(module='mmseg')
        + """
from mmscope.models import *
from mmscope.datasets import *
import mmscope.models, mmscope.datasets
assert MambaScope and check_ade20k
assert 'EarlyExitEncoderDecoder' in dir(mmscope.models)
assert 'ADE20KDataset' in dir(mmscope.datasets)
"""
    )


def test_an_unknown_name_of_a_room_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'mmscope.models' has no 'Vim'"):
        getattr(mmscope.models, 'Vim')  # noqa: B009
