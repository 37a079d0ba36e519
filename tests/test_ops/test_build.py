"""The CPU operators are there without a build at installation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import cpp_extension

import mmscope
from mmscope.ops import build, extension

PACKAGE = Path(mmscope.__file__).parent
# An editable install of older setuptools finds its op for any copy.
ASK = """
import sys
sys.meta_path = [x for x in sys.meta_path if '__editable__' not in repr(x)]
from mmscope.ops import extension
print(extension.__file__, extension.why_not_compiled(), sep='\\n')
"""


@pytest.fixture
def bare(tmp_path):
    """A copy of the package in which nothing was built."""
    ignored = shutil.ignore_patterns('*.so', '__pycache__')
    shutil.copytree(PACKAGE, tmp_path / 'mmscope', ignore=ignored)
    return tmp_path


def why_not_compiled(folder, **variables):
    done = subprocess.run(
        [sys.executable, '-c', ASK],
        cwd=folder,
        env={
            **os.environ,
            'PYTHONPATH': str(folder),
            'XDG_CACHE_HOME': str(folder / 'cache'),
            **variables,
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    file, *reason = done.stdout.splitlines()[-2:]
    assert file.startswith(str(folder))
    return reason[0], done.stderr


def test_what_this_user_compiled_before_is_loaded_in_silence(
    bare, monkeypatch
):
    built = (
        PACKAGE / f'ops/{extension.extension_name().split(".")[-1]}.abi3.so'
    )
    if not built.is_file():
        pytest.skip(f'{built.name} is not built')
    monkeypatch.setenv('XDG_CACHE_HOME', str(bare / 'cache'))
    folder = build.cache_folder()
    folder.mkdir(parents=True)
    shutil.copy(built, folder / f'{build.LIBRARY}.so')
    reason, errors = why_not_compiled(bare, PATH='')
    assert reason == 'None'
    assert 'compiling' not in errors


@pytest.mark.parametrize(
    ('variables', 'message'),
    [
        ({'MMSCOPE_COMPILE': '0'}, 'is switched off (MMSCOPE_COMPILE=0)'),
        ({'CXX': 'no-such-compiler'}, 'no C++ compiler (no-such-compiler'),
        ({'CXX': 'false'}, 'returned non-zero exit status'),
    ],
)
def test_where_nothing_can_be_compiled_the_reason_is_told(
    bare, variables, message
):
    reason, _ = why_not_compiled(bare, **variables)
    assert message in reason
    assert extension.BUILD_COMMAND in reason


def test_what_a_killed_process_left_behind_stops_nobody(tmp_path, monkeypatch):
    def compile_into(name, *args, build_directory, **options):
        # torch's loader waits for ever where a file of this name lies
        assert not (Path(build_directory) / 'lock').exists()
        (Path(build_directory) / f'{name}.so').write_text('complete')

    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.delenv(build.FIRST_USE, raising=False)
    monkeypatch.setattr(cpp_extension, 'load', compile_into)
    monkeypatch.setattr(build, '_why_not_here', lambda: None)
    folder = build.cache_folder()
    folder.mkdir(parents=True)
    (folder / 'lock').touch()
    (folder / 'tmp0killed').mkdir()
    (folder / 'tmp0killed' / 'ops.o').touch()
    assert build.load_compiled() is None
    assert (folder / f'{build.LIBRARY}.so').read_text() == 'complete'
    assert not any(path.is_dir() for path in folder.iterdir())


def test_other_sources_have_another_place_in_the_cache(tmp_path, monkeypatch):
    before = build.cache_folder()
    shutil.copytree(build.SOURCES, tmp_path / 'csrc')
    monkeypatch.setattr(build, 'SOURCES', tmp_path / 'csrc')
    assert build.cache_folder() == before
    with (tmp_path / 'csrc/kernels.h').open('a') as header:
        header.write('// changed')
    assert build.cache_folder() != before


def test_one_file_pulls_in_all_that_reads_the_headers_of_torch():
    assert [path.name for path in build.sources()] == [
        'kernels_avx2.cpp',
        'kernels_avx512.cpp',
        'kernels_portable.cpp',
        'ops.cpp',
    ]
