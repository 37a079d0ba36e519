"""The tables of the page on speed."""

from mmscope.benchmark.page import (
    exits_section,
    growth_section,
    ratios_section,
    steps_section,
)

SETTING = {'machine': 'abacus', 'commit': 'abc'}


def test_quartiles_stand_behind_their_median():
    ratios = {'one': 0.25, 'two': [0.9, 1.0, 1.25]}
    text = ratios_section({'setting': SETTING, 'ratios': ratios})
    cells = [line.split('|')[2].strip() for line in text.splitlines()[2:4]]
    assert cells == ['0.250', '1.00 (0.90 to 1.25)']
    assert 'machine: abacus, commit: abc' in text


def test_steps_show_prediction_and_outcome():
    step = dict(
        step='a fast thing',
        predicted=0.5,
        before='old',
        after='new',
        ratios={'small, batch 8': [0.6, 0.7, 0.8]},
    )
    row = steps_section([step]).splitlines()[-1]
    for part in ('a fast thing', '0.50', '0.70 (0.60 to 0.80)', 'old to new'):
        assert part in row


def test_exits_are_told_in_percent_beside_their_promise():
    base = dict(arch='tiny', resolution=224, batch=1, exit_ratio=None)
    scope = base | dict(
        kind='MambaScope',
        exit_ratio=0.5,
        saving_promised=0.3,
        saving_won=0.21,
        exit_share_won=0.9,
    )
    text = exits_section({'rows': [base | dict(kind='ViM'), scope]})
    cells = [c.strip() for c in text.splitlines()[-1].split('|')[1:-1]]
    assert cells == ['tiny, 224 px, batch 1', '50', '30', '21', '90']


def test_growth_tells_exponents_and_what_was_skipped():
    curve = dict(
        axis='tokens',
        subject='ViM',
        x=[196.0, 1024.0],
        time_exponent=0.91,
        time_exponent_large=None,
        memory_exponent=1.0,
    )
    skipped = dict(subject='DeiT', axis='tokens', x=16384, reason='slow')
    text = growth_section(
        {
            'setting': SETTING,
            'growth': {'curves': [curve], 'skipped': [skipped]},
        }
    )
    assert '0.91' in text
    assert '196 to 1024' in text
    assert '- skipped: DeiT, tokens 16384: slow' in text
