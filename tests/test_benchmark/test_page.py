"""The tables of the page on speed."""

from mmscope.benchmark.checkouts import Step, steps_section
from mmscope.benchmark.grid_report import exits_section
from mmscope.benchmark.grid_rows import Grid, GridRow, Skipped
from mmscope.benchmark.growth import Curve, Curves, GrowthFile, growth_section
from mmscope.benchmark.ratios import RatiosFile, ratios_section

SETTING = {'machine': 'abacus', 'commit': 'abc'}
CELL = {'arch': 'tiny', 'resolution': 224, 'batch': 1}


def test_quartiles_stand_behind_their_median():
    ratios = {'one': 0.25, 'two': (0.9, 1.0, 1.25)}
    text = ratios_section(RatiosFile(SETTING, ratios))
    cells = [line.split('|')[2].strip() for line in text.splitlines()[2:4]]
    assert cells == ['0.250', '1.00 (0.90 to 1.25)']
    assert 'machine: abacus, commit: abc' in text


def test_steps_show_prediction_and_outcome():
    ratios = {'small, batch 8': (0.6, 0.7, 0.8)}
    step = Step('a fast thing', 0.5, 'old', 'new', ratios)
    row = steps_section([step]).splitlines()[-1]
    for part in ('a fast thing', '0.50', '0.70 (0.60 to 0.80)', 'old to new'):
        assert part in row


def test_exits_are_told_in_percent_beside_their_promise():
    speed = {'images_per_s': 1.0, 'images_per_s_iqr': (1.0, 1.0)}
    scope = GridRow(
        **CELL,
        **speed,
        subject='MambaScope 50 %',
        kind='MambaScope',
        exit_ratio=0.5,
        saving_promised=0.3,
        saving_won=0.21,
        exit_share_won=0.9,
    )
    vim = GridRow(**CELL, **speed, subject='ViM', kind='ViM')
    text = exits_section(Grid([vim, scope]))
    cells = [c.strip() for c in text.splitlines()[-1].split('|')[1:-1]]
    assert cells == ['tiny, 224 px, batch 1', '50', '30', '21', '90']


def test_growth_tells_exponents_and_what_was_skipped():
    curve = Curve('tokens', 'ViM', [196.0, 1024.0])
    curve.time_exponent, curve.memory_exponent = 0.91, 1.0
    skipped = Skipped(
        **CELL, subject='DeiT', reason='slow', axis='tokens', x=16384
    )
    text = growth_section(GrowthFile(Curves([curve], [skipped]), SETTING))
    assert '0.91' in text
    assert '196 to 1024' in text
    assert '- skipped: DeiT, tokens 16384: slow' in text
