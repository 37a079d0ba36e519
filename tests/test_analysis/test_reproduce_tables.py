"""What the tool prints, writes and refuses."""

import json
from pathlib import Path

import pytest

from mmscope.cli.reproduce_tables import open_model
from mmscope.evaluation.paper_tables import build
from mmscope.evaluation.tables import to_records

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/analysis_tools/reproduce_tables.py'
README = str(ROOT / 'README.md')
SWEEP = {
    'score': 'top1',
    'convention': 'paper',
    'rows': [
        {'threshold': 0.0, 'exit_ratio': 1.0, 'top1': 50.0},
        {'threshold': 2.0, 'exit_ratio': 0.0, 'top1': 62.5},
    ],
    'confidence': {},
    'images': [],
    'meta': {'config': 'configs/imagenet/mambascope_s.py', 'split': 'test'},
}


@pytest.fixture
def tables(capsys):
    from mmscope.cli import reproduce_tables as tool

    def run(*options):
        tool.main(list(map(str, options)))
        return capsys.readouterr().out

    return run


@pytest.fixture
def sweep_file(tmp_path):
    path = tmp_path / 'mambascope_s.json'
    path.write_text(json.dumps(SWEEP))
    return path


def test_markdown_has_a_table_and_its_notes(tables):
    printed = tables('--tables', 'figure1', 'table7')
    assert '**Figure 1. One stage alone' in printed
    assert '| 7 x 7 ' in printed
    assert ' 1.288 |' in printed
    assert '- The text gives 87.6' in printed
    assert 'No model of these tables was trained here.' in printed


def test_results_reach_the_tables_with_their_source(tables, sweep_file):
    named = tables(
        '--tables', 'figure1', '--results', f'mambascope_s={sweep_file}'
    )
    assert '50.00' in named
    assert '- `mambascope_s`: configs/imagenet/mambascope_s.py' in named
    folder = sweep_file.parent
    options = ('--tables', 'figure1', '--results-dir', folder)
    assert tables(*options) == named
    (folder / 'mambascope_s').mkdir()
    sweep_file.rename(folder / 'mambascope_s/sweep.json')
    assert tables(*options) == named


def test_a_run_on_other_data_is_refused(tables, sweep_file):
    meta = {'config': 'configs/miniimagenet/mambascope_s.py'}
    sweep_file.write_text(json.dumps({**SWEEP, 'meta': meta}))
    with pytest.raises(SystemExit, match='want configs/imagenet for mambasc'):
        tables('--tables', 'table6', '--results-dir', sweep_file.parent)


def test_insert_and_check(tables, tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(
        '<!-- reproduce_tables: begin -->\n<!-- reproduce_tables: end -->\n'
    )
    options = ('--tables', 'table6', '--insert', page)
    with pytest.raises(SystemExit, match='out of date'):
        tables(*options, '--check')
    assert tables(*options) == ''
    assert '| 0.99 ' in page.read_text()
    tables(*options, '--check')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--results', 'mambascope_s'], 'takes NAME=FILE'),
        (['--results', 'mambascope_xl=a.json'], "got 'mambascope_xl=a.json'"),
        (['--results', 'vim_s=no.json'], 'no.json is not the JSON of a sweep'),
        (['--results-dir', 'no/folder'], 'no/folder is no folder'),
        (['--insert', 'no.md'], 'no.md does not exist'),
    ],
)
def test_wrong_input_is_told(tables, options, message):
    with pytest.raises(SystemExit, match=message):
        tables('--tables', 'table6', *options)


@pytest.mark.parametrize(
    'options', [['--check'], ['--json'], ['--tables', 'table9']]
)
def test_wrong_options_are_refused(tables, options):
    with pytest.raises(SystemExit) as stop:
        tables(*options)
    assert stop.value.code == 2


@pytest.mark.parametrize(
    'options',
    [
        ['--insert', str(ROOT / 'docs/results/tables.md')],
        ['--tables', 'table1', '--brief', '--insert', README],
    ],
    ids=['docs', 'readme'],
)
def test_published_tables_are_up_to_date(tables, options):
    pytest.importorskip('mmseg.models', reason='Table 2 needs the mmseg host')
    pytest.importorskip('mmpretrain', reason='needs the mmpretrain host')
    pytest.importorskip('mmdet.models', reason='Table 3 needs the mmdet host')
    tables(*options, '--check')


def test_a_brief_table_has_six_columns_and_no_notes(tables):
    printed = tables('--tables', 'table1', 'table5', '--brief').strip()
    blocks = printed.split('\n\n')
    assert len(blocks) == 2
    for block in blocks:
        lines = block.splitlines()
        assert all(line.startswith('|') for line in lines)
        assert {line.count('|') for line in lines} <= {*range(4, 8)}
    assert 'not trained' not in printed


def test_table2_counts_the_configs_parameters():
    pytest.importorskip('mmseg.models', reason='Table 2 needs the mmseg host')
    rows = to_records(build('table2', {}, open_model).frame)
    counts = {row['label']: row['params'] for row in rows if row['params']}
    assert counts['Vim-Ti'] == 12311660
    assert counts['MambaScope-Ti'] == 12685826
    rounded = {name: round(n / 1e6, 2) for name, n in counts.items()}
    assert (rounded['Vim-S'], rounded['MambaScope-S']) == (45.45, 46.79)
