"""The page on speed says what the files of measurements say."""

import json
import shutil
from pathlib import Path

import pytest

from .conftest import load_tool

RESULTS = Path(__file__).parents[2] / 'docs' / 'results'
speed_page = load_tool('analysis_tools/speed_page.py')
FILES = {name for name, _ in speed_page.SECTIONS.values()}


@pytest.fixture
def page(tmp_path):
    for name in [*FILES, 'speed.md']:
        shutil.copy(RESULTS / name, tmp_path)
    return tmp_path / 'speed.md'


def test_page_of_the_repository_is_what_its_files_say():
    speed_page.main(['--page', str(RESULTS / 'speed.md'), '--check'])


@pytest.mark.parametrize('name', sorted(FILES - {'speed_steps.json'}))
def test_another_commit_in_a_file_is_noticed(name, page):
    path = page.parent / name
    measured = json.loads(path.read_text())
    measured['setting']['commit'] = 'another'
    path.write_text(json.dumps(measured))
    with pytest.raises(SystemExit, match='is out of date'):
        speed_page.main(['--page', str(page), '--check'])
    speed_page.main(['--page', str(page)])
    speed_page.main(['--page', str(page), '--check'])


def test_a_missing_file_is_named(page):
    (page.parent / 'bench.json').unlink()
    with pytest.raises(SystemExit, match='bench.json does not exist'):
        speed_page.main(['--page', str(page)])
