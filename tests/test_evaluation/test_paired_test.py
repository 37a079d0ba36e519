import math

import msgspec
import pytest

from mmscope.evaluation import SweepResult
from mmscope.evaluation.paired_test import (
    Hypothesis,
    Side,
    format_tests,
    paired_test,
)


def sweep(fine, coarse=None, confidence=None, costs=(1.0, 4.0), each=()):
    """A sweep; ``each`` are the costs of its images, exiting and not."""
    images = []
    for i, score in enumerate(fine):
        images.append({'name': str(i), 'fine_top1': score})
        if coarse:
            images[i]['coarse_top1'] = coarse[i]
            images[i]['confidence'] = confidence[i]
        if each:
            images[i]['exit_cost'], images[i]['full_cost'] = each[i]
    costs = costs if coarse else costs[1:]
    rows = [{'mean_cost': cost} for cost in costs]
    return SweepResult.from_json(
        {
            'score': 'top1',
            'convention': 'paper',
            'images': images,
            'rows': rows,
        }
    )


VIM = sweep([100, 0, 100, 0])
OURS = sweep(
    fine=[100, 100, 100, 0],
    coarse=[0, 100, 100, 100],
    confidence=[0.1, 0.9, 0.4, 0.6],
)
SWEEPS = {'vim': VIM, 'ours': OURS, 'ours_val': OURS}


def claim(better, worse, margin=0.0):
    return {
        'claim': 'it is so',
        'better': better,
        'worse': worse,
        'margin': margin,
    }


def judge(entry, sweeps):
    return paired_test(msgspec.convert(entry, Hypothesis), sweeps)


def test_the_difference_is_paired_image_by_image():
    found = judge(claim({'run': 'ours'}, {'run': 'vim'}), SWEEPS)
    assert found.better_score == 75
    assert found.worse_score == 50
    assert found.difference == 25
    # Differences 0, 100, 0, 0: standard deviation 50.
    assert found.error == pytest.approx(50 / math.sqrt(4))
    assert found.verdict == 'undecided'


def test_images_without_anything_to_score_are_left_out():
    sweeps = {
        'vim': sweep([100, None, 0, 0]),
        'ours': sweep([100, None, 100, 0]),
    }
    found = judge(claim({'run': 'ours'}, {'run': 'vim'}), sweeps)
    assert found.difference == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ('lead', 'margin', 'verdict'),
    [
        (1, 0.0, 'held'),
        (-1, 0.0, 'not held'),
        (-1, 30.0, 'held'),
        (-1, 20.0, 'undecided'),
        (0, 0.0, 'undecided'),
    ],
)
def test_a_verdict_needs_two_standard_errors(lead, margin, verdict):
    low = [0.0] * 100
    # 20 of 100 images differ: 20 points, standard error 4.02.
    high = [100.0] * 20 + [0.0] * 80
    sides = {1: (high, low), -1: (low, high), 0: (high, high)}[lead]
    sweeps = dict(zip('ab', map(sweep, sides), strict=True))
    found = judge(claim({'run': 'a'}, {'run': 'b'}, margin), sweeps)
    assert found.difference == 20 * lead
    assert found.verdict == verdict


def test_a_gated_side_takes_its_threshold_from_the_other_split():
    # Half of 4 GMACs lets 2 of 3 GMACs go: two thirds of four images, so
    # three exit; the image with confidence 0.1 is refined.
    gated = {
        'run': 'ours',
        'stage': 'gated',
        'chosen_on': 'ours_val',
        'cost_of': 'vim',
        'cost_share': 0.5,
    }
    found = judge(claim(gated, {'run': 'vim'}), SWEEPS)
    assert found.better_score == 100
    assert '75.0% exit' in found.better
    assert '43.8% of the MACs' in found.better
    sure = sweep([0.0] * 4, [0.0] * 4, [0.95] * 4)
    other = judge(claim(gated, {'run': 'vim'}), {**SWEEPS, 'ours_val': sure})
    # There nobody is sure enough here.
    assert '0.0% exit' in other.better


UNEVEN = dict(
    fine=[100, 100, 100, 0],
    coarse=[0, 100, 100, 100],
    confidence=[0.1, 0.9, 0.4, 0.6],
    # In the order of the confidences 2, 3, 3 and 4 are saved.
    costs=(1.0, 4.0),
    each=[(1, 5), (1, 3), (1, 4), (1, 4)],
)


def test_images_of_different_costs_are_added_up_one_by_one():
    gated = {
        'run': 'ours',
        'stage': 'gated',
        'chosen_on': 'ours',
        'cost_of': 'vim',
        'cost_share': 0.7,
    }
    # Two exits leave 16 - 2 - 3 = 11 of at most 0.7 * 16 = 11.2 GMACs.
    sweeps = {'vim': VIM, 'ours': sweep(**UNEVEN)}
    found = judge(claim(gated, {'run': 'vim'}), sweeps)
    assert '50.0% exit, 68.8% of the MACs' in found.better
    gated['cost_share'] = 0.65
    found = judge(claim(gated, {'run': 'vim'}), sweeps)
    # Of at most 10.4: a line between both ends would hold 11 for 10.
    assert '75.0% exit, 50.0% of the MACs' in found.better


@pytest.mark.parametrize(('middle', 'fits'), [(2.5, True), (2.75, False)])
def test_a_file_without_costs_of_images_needs_a_straight_line(middle, fits):
    gated = {
        'run': 'ours',
        'stage': 'gated',
        'chosen_on': 'ours',
        'cost_of': 'vim',
        'cost_share': 0.65,
    }
    old = sweep(**{**UNEVEN, 'costs': (1.0, middle, 4.0), 'each': ()})
    old.rows['exit_ratio'] = [1.0, 0.5, 0.0]
    sweeps = {'vim': VIM, 'ours': old}
    if fits:
        found = judge(claim(gated, {'run': 'vim'}), sweeps)
        assert '50.0% exit, 62.5% of the MACs' in found.better
        return
    with pytest.raises(ValueError, match='different numbers of MACs.* again'):
        judge(claim(gated, {'run': 'vim'}), sweeps)


def test_an_impossible_cost_says_what_is_possible():
    gated = {
        'run': 'ours',
        'stage': 'gated',
        'chosen_on': 'ours_val',
        'cost_of': 'vim',
        'cost_share': 0.1,
    }
    with pytest.raises(ValueError, match='between 1 and 4 GMACs .* 0.4 are'):
        judge(claim(gated, {'run': 'vim'}), SWEEPS)


@pytest.mark.parametrize(
    ('side', 'message'),
    [
        ({'run': 'deit'}, "no sweep 'deit'; there are"),
        ({'run': 'vim', 'stage': 'coarse'}, 'has no coarse stage'),
        ({'run': 'vim', 'stage': 'middle'}, "got 'middle'"),
        ({'run': 'ours', 'stage': 'gated'}, 'needs chosen_on'),
    ],
)
def test_bad_sides_are_named(side, message):
    with pytest.raises(ValueError, match=message):
        judge(claim(side, {'run': 'vim'}), SWEEPS)


@pytest.mark.parametrize('given', [[100.0], [None, 100.0], [None, None]])
def test_too_few_scored_images_are_no_test(given):
    sweeps = {'ours': sweep(given), 'vim': sweep([0.0] * len(given))}
    with pytest.raises(ValueError, match="'it is so': [01] images are scored"):
        judge(claim({'run': 'ours'}, {'run': 'vim'}), sweeps)


@pytest.mark.parametrize('margin', [math.nan, math.inf])
def test_a_margin_is_finite(margin):
    with pytest.raises(ValueError, match=f'finite .* points, got {margin}'):
        judge(claim({'run': 'ours'}, {'run': 'vim'}, margin), SWEEPS)


def test_other_images_are_refused():
    sweeps = {**SWEEPS, 'few': sweep([100.0, 0.0])}
    with pytest.raises(ValueError, match=r'different images \(4 and 2\)'):
        judge(claim({'run': 'ours'}, {'run': 'few'}), sweeps)


def test_the_table_names_both_sides_and_the_verdict():
    found = judge(
        claim({'run': 'ours', 'stage': 'coarse'}, {'run': 'vim'}), SWEEPS
    )
    row = format_tests([found]).splitlines()[-1]
    assert 'it is so | undecided' in row
    assert 'ours, coarse' in row
    assert '+25.00' in row
    assert str(Side('vim')) in row


SEEDS = {
    'vim_s0': sweep([0.0, 0.0, 100.0, 0.0]),
    'vim_s1': sweep([0.0, 100.0, 100.0, 0.0]),
    'ours_s0': sweep([100.0, 0.0, 100.0, 0.0]),
    'ours_s1': sweep([100.0, 100.0, 100.0, 100.0]),
}


def of_seeds(seeds, worse='vim_s{seed}'):
    return {**claim({'run': 'ours_s{seed}'}, {'run': worse}), 'seeds': seeds}


def test_seeds_are_averaged_and_their_spread_is_an_error_too():
    found = judge(of_seeds([0, 1]), SEEDS)
    assert (found.better_score, found.worse_score) == (75, 37.5)
    assert found.difference == 37.5
    assert found.by_seed == '+25.00, +50.00'
    # Of the images: means 100, 0, 0, 50 have a standard deviation of 47.87.
    # Of the seeds: half of the 25 points between them.
    assert found.error == pytest.approx(math.hypot(23.936, 12.5), abs=1e-3)
    header, _, row = format_tests([found]).splitlines()
    assert 'seed by seed' in header
    assert '+25.00, +50.00' in row
    assert 'ours_s{seed}, fine' in row


def test_one_training_has_no_column_of_seeds():
    found = judge(claim({'run': 'ours'}, {'run': 'vim'}), SWEEPS)
    assert 'seed' not in format_tests([found])


def test_one_side_may_be_the_same_for_every_seed():
    found = judge(of_seeds([0, 1], worse='vim_s0'), SEEDS)
    assert found.by_seed == '+25.00, +75.00'


@pytest.mark.parametrize('seeds', [[0], [1, 1]])
def test_seeds_that_are_not_several_are_refused(seeds):
    with pytest.raises(ValueError, match='two or more different numbers'):
        judge(of_seeds(seeds), SEEDS)


def test_seeds_without_their_place_in_the_name_are_refused():
    entry = {**claim({'run': 'ours'}, {'run': 'vim'}), 'seeds': [0, 1]}
    with pytest.raises(ValueError, match="'{seed}' in the name of a run"):
        judge(entry, SWEEPS)
    with pytest.raises(ValueError, match='seeds go together'):
        judge(of_seeds([]), SEEDS)


def test_seeds_of_other_images_are_refused():
    few = {**SEEDS, 'vim_s1': sweep([0.0]), 'ours_s1': sweep([100.0])}
    with pytest.raises(ValueError, match=r'different images \(4 and 1\)'):
        judge(of_seeds([0, 1]), few)
