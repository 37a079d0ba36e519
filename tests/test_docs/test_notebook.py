"""The notebook runs from top to bottom, and is stored without outputs."""

from __future__ import annotations

import ast
import json

import matplotlib as mpl
import pytest

from .pages import ROOT

FOLDER = ROOT / 'docs/notebooks'


def code_cells(path):
    cells = json.loads(path.read_text())['cells']
    return [cell for cell in cells if cell['cell_type'] == 'code']


@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.ipynb')), ids=str)
def test_a_notebook_holds_no_outputs(path):
    for cell in code_cells(path):
        assert cell['outputs'] == []
        assert cell['execution_count'] is None


def run_cell(source, names):
    """Run a cell; the value of its last line, as a notebook shows it."""
    tree = ast.parse(source)
    shown = None
    if isinstance(tree.body[-1], ast.Expr):
        shown = ast.Expression(tree.body.pop().value)
    exec(compile(tree, 'cell', 'exec'), names)
    return shown and eval(compile(shown, 'cell', 'eval'), names)


def test_the_first_steps_run_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    monkeypatch.chdir(tmp_path)
    mpl.use('Agg')
    names = {'__name__': 'notebook'}
    for cell in code_cells(FOLDER / 'first_steps.ipynb'):
        shown = run_cell(''.join(cell['source']), names)
    assert names['exited'].sum() == 4
    # Eight pictures of eight classes.
    assert names['right'] >= 5
    assert 'leave: ' in capsys.readouterr().out
    # The picture is what the last cell shows.
    assert len(shown.axes) >= 12
