"""The page on GPUs says what the file of measurements says."""

from __future__ import annotations

import shutil
import types
from pathlib import Path

import pytest

from mmscope.benchmark.counted import predictions
from mmscope.benchmark.gpu.record import DONE, Outcome, Record

from .conftest import load_tool

PAGE = Path(__file__).parents[2] / 'docs' / 'results' / 'gpu.md'
tool = load_tool('analysis_tools/speed_page.py')
ROW = dict(
    op='scan',
    run='forward',
    scored=False,
    batch=1,
    seqlen=2,
    dim=3,
    d_state=4,
)
CARD = 'NVIDIA H100 80GB HBM3'


@pytest.fixture
def page(tmp_path):
    return Path(shutil.copy(PAGE, tmp_path))


def measure(page):
    record = Record(page.with_suffix('.json'))
    record.setting = dict(device=CARD, commit='abc', dry_run=False)
    row = ROW | dict(rival='triton', us=12.0)
    record.put(Outcome('ops', 'one', DONE, 1.0, [row]))


def test_a_measurement_makes_the_page_out_of_date(page):
    measure(page)
    with pytest.raises(SystemExit, match='is out of date'):
        tool.main(['--page', str(page), '--check'])
    tool.main(['--page', str(page)])
    tool.main(['--page', str(page), '--check'])
    assert f'Measured on {CARD} at commit abc' in page.read_text()


def test_predictions_stand_beside_measurements(page, monkeypatch):
    measure(page)
    sizes = {k: ROW[k] for k in ('batch', 'seqlen', 'dim', 'd_state')}
    rows = [
        types.SimpleNamespace(
            model=model, part=part, milliseconds=milliseconds, **sizes
        )
        for model, part, milliseconds in (
            ('ViM-S', 'forward', 0.006),
            ('ViM-S', 'training', 9.0),
            ('MambaScope-S', 'forward', 9.0),
        )
    ]
    found = {'H200': [], 'H100': rows}
    monkeypatch.setattr(predictions, 'predict', lambda card, _: found[card])
    tool.main(['--page', str(page)])
    line = next(x for x in page.read_text().splitlines() if '12.0' in x)
    assert '2.00' in line


def test_another_file_is_refused(page):
    page.with_suffix('.json').write_text('[]')
    with pytest.raises(SystemExit, match='is not the JSON of'):
        tool.main(['--page', str(page)])
