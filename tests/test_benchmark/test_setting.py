from __future__ import annotations

import pytest

from mmscope.benchmark.setting import describe_setting, noise_note


@pytest.mark.parametrize(
    ('load', 'cores', 'noisy'),
    [(0.9, 2, False), (1.1, 2, True), (1.1, 8, False), (0.6, None, True)],
)
def test_a_busy_machine_is_named(load, cores, noisy):
    note = noise_note({'load': load, 'cores': cores})
    assert note.startswith('NOISY MACHINE') == noisy


def test_the_setting_names_what_was_asked_for_and_what_can_run():
    setting = describe_setting('cpu', 'bfloat16', 'reference')
    assert setting['dtype'] == 'bfloat16'
    assert setting['backend'] == 'reference'
    assert 'reference' in setting['backends']
    assert setting['commit']
