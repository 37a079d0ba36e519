"""The pages lead somewhere, and become a site without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from .pages import PAGES, ROOT, name

LINK = re.compile(r'\]\(([^)\s]+)\)')
LONGEST_README = 149


def slugs(page):
    """Anchors of a page's headings."""
    titles = re.findall(r'^#+ (.*)$', page.read_text(), re.M)
    return {
        re.sub(r'[^\w\- ]', '', title).strip().lower().replace(' ', '-')
        for title in titles
    }


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page):
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.M | re.S)
    for link in LINK.findall(text):
        if '://' in link:
            continue
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        assert target.is_file(), f'{name(page)}: {link}'
        assert not anchor or anchor in slugs(target), f'{name(page)}: {link}'


def test_the_readme_is_short():
    lines = (ROOT / 'README.md').read_text().splitlines()
    assert len(lines) <= LONGEST_README


def test_lists_and_tables_of_the_pages_are_read_as_such():
    started = re.compile(r'(- |\d+\. |\|)')
    for page in PAGES:
        text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.M | re.S)
        before = ''
        for line in text.splitlines():
            inside = re.match(r'(\s|- |\d+\. |\||<!--|$)', before)
            assert inside or not started.match(line), (
                f'{name(page)}: no empty line before {line!r}'
            )
            before = line


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The site, built with warnings as errors."""
    if find_spec('material') is None:
        pytest.skip('needs mkdocs-material: requirements/dev.txt')
    folder = tmp_path_factory.mktemp('site')
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-d', folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_draws_diagrams_and_has_every_page(site):
    page = (site / 'architecture/index.html').read_text()
    assert '<pre class="mermaid"><code>flowchart' in page
    for page in PAGES:
        path = page.relative_to(ROOT).with_suffix('')
        if path.parts[0] == 'docs' and path.name != 'index':
            inside = '/'.join(path.parts[1:])
            assert (site / inside / 'index.html').is_file()
    written = (site / 'results/tables/index.html').read_text()
    assert written.count('<table>') > 5


def test_the_site_asks_no_other_server_for_letters(site):
    assert 'fonts.googleapis' not in (site / 'index.html').read_text()
