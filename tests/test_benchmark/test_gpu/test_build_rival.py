from __future__ import annotations

import os
import tarfile

import pytest
from torch.utils import cpp_extension

from mmscope.benchmark.gpu import build_rival
from mmscope.benchmark.gpu.build_rival import (
    FOLDER,
    SOURCES,
    build,
    find_sources,
)
from mmscope.errors import UserError


@pytest.fixture
def package(tmp_path):
    """Folder laid out as the source package."""
    root = tmp_path / 'mamba_ssm-2.2.6'
    (root / FOLDER).mkdir(parents=True)
    for name in (*SOURCES, 'selective_scan.h'):
        (root / FOLDER / name).write_text(name)
    return root


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ('TORCH_CUDA_ARCH_LIST', 'MAX_JOBS'):
        monkeypatch.setenv(name, '')


def test_sources_are_found_in_an_archive(package, tmp_path):
    archive = tmp_path / 'mamba_ssm-2.2.6.tar.gz'
    with tarfile.open(archive, 'w:gz') as file:
        file.add(package, package.name)
    found = find_sources(archive, tmp_path / 'scratch')
    assert [path.name for path in found] == list(SOURCES)


def test_a_missing_file_is_named(package, tmp_path):
    (package / FOLDER / SOURCES[1]).unlink()
    with pytest.raises(UserError, match=f'lacks {SOURCES[1]}'):
        find_sources(package, tmp_path)


def test_another_folder_and_another_file_are_refused(tmp_path):
    with pytest.raises(UserError, match='has no folder csrc/selective_scan'):
        find_sources(tmp_path, tmp_path)
    (tmp_path / 'text').write_text('x')
    with pytest.raises(UserError, match='no source package'):
        find_sources(tmp_path / 'text', tmp_path)


@pytest.fixture
def compiler(monkeypatch):
    """Put a compiler in place of that which may not be here."""

    def use(function):
        monkeypatch.setattr(build_rival, 'why_no_build', lambda _: None)
        monkeypatch.setattr(cpp_extension, 'load', function)

    return use


def test_it_is_built_for_one_card_by_all_jobs(package, tmp_path, compiler):
    asked = {}
    compiler(lambda **options: asked.update(options))
    target = tmp_path / 'rival'
    build(target, package, '9.0', 5)
    assert asked['name'] == 'selective_scan_cuda'
    assert len(asked['sources']) == 10
    # The objects and their sources outlive the scratch folder.
    assert all(str(target) in source for source in asked['sources'])
    assert (target / 'sources' / 'selective_scan.h').is_file()
    assert os.environ['TORCH_CUDA_ARCH_LIST'] == '9.0'
    assert os.environ['MAX_JOBS'] == '5'


def test_a_compiler_that_fails_is_quoted(package, tmp_path, compiler):

    def fail(**options):
        raise RuntimeError('ninja: error 255')

    compiler(fail)
    with pytest.raises(UserError, match='was not built: ninja: error 255'):
        build(tmp_path / 'rival', package, '9.0', 1)


def test_without_nvcc_the_reason_says_what_to_install(
    package, tmp_path, monkeypatch
):
    monkeypatch.setattr(cpp_extension, 'CUDA_HOME', None)
    with pytest.raises(UserError, match='cannot be built here: '):
        build(tmp_path / 'rival', package)
