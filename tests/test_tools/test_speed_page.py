"""The page on speed says what the files of measurements say."""

import json
import shutil
from pathlib import Path

import pytest

from .conftest import load_tool

RESULTS = Path(__file__).parents[2] / 'docs' / 'results'
speed_page = load_tool('analysis_tools/speed_page.py')
FILES = {section.file for section in speed_page.PAGES['speed.md'].values()}


@pytest.fixture
def page(tmp_path):
    for name in [*FILES, 'speed.md']:
        shutil.copy(RESULTS / name, tmp_path)
    return tmp_path / 'speed.md'


@pytest.mark.parametrize('name', speed_page.PAGES)
def test_pages_of_the_repository_are_what_their_files_say(name):
    for section in speed_page.PAGES[name].values():
        if not (RESULTS / section.file).exists():
            pytest.skip(f'{section.file} has not been measured')
    speed_page.main(['--page', str(RESULTS / name), '--check'])


def test_token_reductions_have_a_page_of_their_own(tmp_path, capsys):
    name = 'token_reduction_speed'
    page = shutil.copy(RESULTS / f'{name}.md', tmp_path)
    row = dict(arch='tiny', resolution=224, batch=1, kind='ViM')
    row |= dict(subject='ViM', images_per_s=9.0, gmacs=1.5)
    row['images_per_s_iqr'] = [8.5, 9.5]
    result = {'setting': {'commit': 'abc'}, 'rows': [row], 'skipped': []}
    (tmp_path / f'{name}.json').write_text(json.dumps(result))
    speed_page.main(['--page', str(page)])
    assert '9.0 (8.5 to 9.5)' in (tmp_path / f'{name}.md').read_text()
    speed_page.main(['--page', str(page), '--check'])
    with pytest.raises(SystemExit):
        speed_page.main(['--page', str(tmp_path / 'other.md')])
    assert 'speed.md and token_reduction_speed.md' in capsys.readouterr().err


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
