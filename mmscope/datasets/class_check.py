"""Model, data and checkpoint must mean the same classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import Dataset

from mmscope.errors import DatasetLayoutError
from mmscope.registry import HOOKS

from .coco_metric import check_metric

HEADS = (
    *('bbox_head', 'mask_head', 'exit_head'),
    *('decode_head', 'auxiliary_head'),
)


@HOOKS.register_module()
class ClassCheckHook(Hook):
    """Compare the classes of model, data and checkpoint before a run.

    Example::

        custom_hooks = [dict(type='mmscope.ClassCheckHook')]

    The number is compared before anything runs: of a classifier's head, of a
    segmentor's decode and auxiliary heads, of a detector's box and mask heads,
    of the backbone's exit head. A COCO metric must read the annotations of the
    data that it scores. Names are compared when a checkpoint is loaded: the
    same names in another order, or partly other names, mean that scores would
    be taken against wrong labels, which a test and a resumed training refuse.
    A training that starts from these weights warns, since fine-tuning may well
    have other classes. ``mmscope train`` and ``mmscope test`` bring this hook;
    the hosts' own tools do not.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Compare the number of classes of model and data."""
        cfg = getattr(runner, 'cfg', None) or {}
        for dataset in _datasets(runner):
            check_num_classes(_unwrap(runner.model), dataset)
            check_heads(_unwrap(runner.model), dataset, cfg.get('model'))
        for loop in (runner._val_loop, runner._test_loop):
            if isinstance(loop, BaseLoop) and hasattr(loop, 'evaluator'):
                for metric in loop.evaluator.metrics:
                    check_metric(metric, loop.dataloader.dataset)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the names of checkpoint and data."""
        meta = checkpoint.get('meta') or {}
        trained = (meta.get('dataset_meta') or {}).get('classes')
        present = next((_classes(data) for data in _datasets(runner)), None)
        if trained is None or present is None:
            return
        problem = class_mismatch(tuple(trained), tuple(present))
        if not problem:
            return
        training = isinstance(runner._train_loop, BaseLoop)
        fine_tuning = training and not runner._resume
        if fine_tuning or not set(trained) & set(present):
            runner.logger.warning(problem)
            return
        raise DatasetLayoutError(problem)


def check_num_classes(model: nn.Module, dataset: Dataset) -> None:
    """Check that a classifier has one output per class of the data.

    Args:
        model (nn.Module): With ``head.num_classes``; others pass.
        dataset (Dataset): With ``metainfo['classes']``; others pass.

    Raises:
        DatasetLayoutError: With both numbers and what to set.
    """
    classes = _classes(dataset)
    expected = getattr(getattr(model, 'head', None), 'num_classes', None)
    if classes is None or expected is None:
        return
    one_hot = getattr(model.data_preprocessor, 'num_classes', None)
    if expected == len(classes) and one_hot in (None, expected):
        return
    where = getattr(dataset, 'img_prefix', '')
    raise DatasetLayoutError(
        f'the data has {len(classes)} classes ({where}), model.head is made '
        f'for {expected} and model.data_preprocessor for {one_hot}. For '
        f'this data: --cfg-options model.head.num_classes={len(classes)} '
        f'model.data_preprocessor.num_classes={len(classes)}. For a model '
        f'of {expected} classes: check data_root.'
    )


def check_heads(
    model: nn.Module, dataset: Dataset, cfg: dict | None = None
) -> None:
    """Check that heads of dense tasks, and of exits, fit the data's classes.

    Args:
        model (nn.Module): Decode, auxiliary, box, mask and exit heads are
            looked for, at any depth; other modules pass.
        dataset (Dataset): With ``metainfo['classes']``; others pass.
        cfg (dict | None): Config of the model, for the names of its keys.
            Defaults to None.

    Raises:
        DatasetLayoutError: With every key and the number to set.
    """
    classes = _classes(dataset)
    if classes is None or not isinstance(model, nn.Module):
        return
    wrong = {
        _config_key(name, cfg): number
        for name, number in counting_heads(model)
        if number != len(classes)
    }
    if not wrong:
        return
    where = getattr(dataset, 'ann_file', '') or 'metainfo'
    options = ' '.join(f'{key}={len(classes)}' for key in wrong)
    found = ', '.join(f'{key} is {number}' for key, number in wrong.items())
    raise DatasetLayoutError(
        f'the data has {len(classes)} classes ({where}), but {found}. For '
        f'this data: --cfg-options {options}. For the classes of the model: '
        'check metainfo.classes and ann_file of the data set.'
    )


def counting_heads(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Find decode, box, mask and exit heads with one output per class.

    Args:
        model (nn.Module): Searched at any depth. A classifier's own head has
            no name that tells it from others, and is not among them.

    Yields:
        tuple[str, int]: Name of a head's module, and its classes.
    """
    for name, head in model.named_modules():
        # One of several heads has a number behind its name.
        parts = [part for part in name.split('.') if not part.isdigit()]
        number = getattr(head, 'num_classes', None)
        counts = parts and parts[-1] in HEADS and isinstance(number, int)
        if counts and not getattr(head, 'class_agnostic', False):
            yield name, number


def class_mismatch(trained: Sequence[str], present: Sequence[str]) -> str:
    """Describe how the classes of a checkpoint differ from those here.

    Args:
        trained (Sequence[str]): Names that the checkpoint was trained on.
        present (Sequence[str]): Names of the data.

    Returns:
        str: A sentence, '' if they are the same in the same order.
    """
    if trained == present:
        return ''
    common = set(trained) & set(present)
    if not common:
        return (
            'the class names of the checkpoint and of the data have nothing '
            f'in common ({trained[0]!r} and {present[0]!r} come first): '
            'labels are compared by position, make sure that the order is '
            'the same'
        )
    pairs = list(zip(trained, present, strict=False))
    differing = (i for i, pair in enumerate(pairs) if pair[0] != pair[1])
    first = next(differing, len(pairs))
    before, now = (
        repr(names[first]) if first < len(names) else 'nothing'
        for names in (trained, present)
    )
    same = set(trained) == set(present)
    return (
        f'the checkpoint was trained on {len(trained)} classes, the data has '
        f'{len(present)}, {len(common)} names in common'
        f'{" but in another order" if same else ""}: class {first} is '
        f'{before} in the checkpoint and {now} here. Use the data that it '
        'was trained on, or name its class folders in class_list'
    )


def _datasets(runner: Runner) -> Iterator[Dataset]:
    """Data sets of the loops that this run has built."""
    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
        if isinstance(loop, BaseLoop):
            yield loop.dataloader.dataset


def _config_key(name: str, cfg: dict | None) -> str:
    """Where the config sets it: a list of heads may be one entry there."""
    parts = []
    for part in name.split('.'):
        if part.isdigit() and isinstance(cfg, dict):
            continue
        parts.append(part)
        if isinstance(cfg, dict):
            cfg = cfg.get(part)
        elif isinstance(cfg, list):
            cfg = cfg[int(part)]
    return '.'.join(['model', *parts, 'num_classes'])


def _classes(dataset: Dataset) -> tuple[str, ...] | None:
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')


def _unwrap(model: nn.Module) -> nn.Module:
    # Test-time augmentation wraps the model as DDP does.
    while is_model_wrapper(model) or not hasattr(model, 'head'):
        if not hasattr(model, 'module'):
            break
        model = model.module
    return model
