"""A chosen threshold, as a file holds it."""

from mmscope.runtime import ExitChoice


def exit_choice(score='top1', **changes):
    expected = {score: 75.0, 'mean_cost': 0.5, 'exit_ratio': 0.25}
    fields = {
        'exit_threshold': 0.625,
        'confidence': 'max_prob',
        'target': 'max_drop',
        'limit': 1.0,
        'split': 'val',
        'expected': expected,
        'score': score,
        'convention': 'paper',
        'num_images': 40,
        'config': 'configs/x.py',
        'checkpoint': 'epoch_1.pth',
    }
    return ExitChoice(**{**fields, **changes})
