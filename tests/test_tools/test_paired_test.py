import json
from pathlib import Path

import pandas as pd
import pytest

from mmscope.evaluation import SweepResult

from .conftest import load_tool

ROOT = Path(__file__).parents[2]
PAGE = '# Page\n\n<!-- paired_test: begin -->\n<!-- paired_test: end -->\n'
CLAIM = {
    'claim': 'refinement helps',
    'better': {'run': 'ours'},
    'worse': {'run': 'ours', 'stage': 'coarse'},
}


@pytest.fixture
def tool():
    return load_tool('analysis_tools/paired_test.py')


@pytest.fixture
def files(tmp_path):
    images = [
        {
            'name': str(i),
            'confidence': 0.5,
            'coarse_top1': 0.0 if i % 2 else 100.0,
            'fine_top1': 100.0,
        }
        for i in range(20)
    ]
    columns = {'threshold': [0.0, 2.0], 'top1': [50.0, 100.0]}
    rows = pd.DataFrame(columns | {'mean_cost': [1.0, 3.0]})
    sweep = SweepResult('top1', 'paper', rows, images=pd.DataFrame(images))
    sweep.to_json(tmp_path / 'ours.json')
    (tmp_path / 'claims.json').write_text(json.dumps([CLAIM]))
    (tmp_path / 'page.md').write_text(PAGE)
    return tmp_path


def test_a_report_is_written_from_sweeps_and_again_from_the_tested(
    tool, files
):
    claims, tested = str(files / 'claims.json'), str(files / 'tested.json')
    page = files / 'page.md'
    tool.main([claims, str(files / 'ours.json'), '--json', tested])
    tool.main(['--tested', tested, '--insert', str(page)])
    assert '| refinement helps | held' in page.read_text()
    assert '+50.00' in page.read_text()
    tool.main(['--tested', tested, '--insert', str(page), '--check'])
    page.write_text(page.read_text().replace('+50.00', '+60.00'))
    with pytest.raises(SystemExit, match='out of date'):
        tool.main(['--tested', tested, '--insert', str(page), '--check'])


def test_a_document_has_a_table_a_section(tool, files):
    page = files / 'page.md'
    page.write_text(''.join(PAGE.replace('test:', f'test {n}:') for n in 'ab'))
    command = [str(files / 'claims.json'), str(files / 'ours.json')]
    tool.main([*command, '--insert', str(page), '--section', 'b'])
    before, after = page.read_text().split('<!-- paired_test b: begin -->')
    assert 'refinement helps' in after
    assert 'refinement helps' not in before
    with pytest.raises(SystemExit, match='<!-- paired_test: begin -->'):
        tool.main([*command, '--insert', str(page)])


def test_a_section_is_one_of_a_document(tool, files, capsys):
    command = [str(files / 'claims.json'), str(files / 'ours.json')]
    with pytest.raises(SystemExit, match='2'):
        tool.main([*command, '--section', 'b'])
    assert '--section need --insert' in capsys.readouterr().err


def test_a_missing_sweep_is_named(tool, files):
    with pytest.raises(SystemExit, match="no sweep 'ours'"):
        tool.main([str(files / 'claims.json')])


def test_bad_files_end_in_one_sentence(tool, files):
    with pytest.raises(SystemExit, match='No such file'):
        tool.main(['--tested', str(files / 'none.json')])
    (files / 'tested.json').write_text(json.dumps([CLAIM]))
    with pytest.raises(SystemExit, match=r'tested.json: .*`\$\[0\]'):
        tool.main(['--tested', str(files / 'tested.json')])


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        ('{}', 'Expected `array`, got `object`'),
        ('[{', 'malformed|truncated'),
        ([CLAIM, {**CLAIM, 'foo': 1}], r'unknown field `foo` - at `\$\[1\]`'),
        (
            [{**CLAIM, 'better': 'x'}],
            r'`object`, got `str` - at `\$\[0\].better',
        ),
        (
            [{**CLAIM, 'margin': '1'}],
            r'`float`, got `str` - at `\$\[0\].margin',
        ),
        ([{'claim': 'x'}], 'required field `better`'),
        ([{**CLAIM, 'seeds': [1]}], 'two or more different numbers'),
    ],
)
def test_hypotheses_that_are_none_are_named_with_their_place(
    tool, files, content, told
):
    text = content if isinstance(content, str) else json.dumps(content)
    (files / 'claims.json').write_text(text)
    with pytest.raises(SystemExit, match=f'claims.json: .*({told})'):
        tool.main([str(files / 'claims.json'), str(files / 'ours.json')])


@pytest.mark.parametrize(
    'tested', sorted(ROOT.glob('docs/results/*/claims*.json'))
)
def test_committed_reports_say_what_was_tested(tool, tested):
    page = tested.parent.with_suffix('.md')
    section = tested.stem.removeprefix('claims').removeprefix('_')
    place = ['--section', section] if section else []
    command = ['--tested', str(tested), '--insert', str(page), '--check']
    tool.main([*command, *place])
