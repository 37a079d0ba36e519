"""Score a checkpoint with a config of any of the three hosts.

python tools/test.py configs/ade20k/mambascope_ti_upernet.py CKPT
python tools/test.py ... --exit-threshold 0.7
python tools/test.py ... --exit-threshold THRESHOLD.json
tools/dist_test.sh configs/ade20k/mambascope_ti_upernet.py CKPT 4
"""

from __future__ import annotations

import argparse
from functools import partial

from mmengine.config import Config

from mmscope.cli.arguments import add_model, add_run_options, tool_parser
from mmscope.cli.host_run import Prepared, open_run, run_host
from mmscope.errors import UserError
from mmscope.runtime import (
    adapt_to_machine,
    ending_cleanly,
    number_of_processes,
    read_checkpoint,
    set_exit_threshold,
    type_name,
    use_tta,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    add_model(parser)
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_pipeline, else each "
        'image and its mirror; every view exits by itself',
    )
    parser.add_argument(
        '--out',
        help='write predictions: a folder of PNG masks (mmseg), else a .pkl',
    )
    parser.add_argument(
        '--show-dir', help='write pictures of predictions to this folder'
    )
    add_run_options(parser)
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> Prepared:
    """Make the complete config and the remarks for its log.

    Raises:
        UserError: If the command line or the config is at fault.
    """
    cfg = open_run(args)
    read_checkpoint(args.checkpoint)
    cfg.load_from, cfg.resume = args.checkpoint, False
    notes = set_exit_threshold(cfg, args.exit_threshold)
    if args.show_dir:
        use_pictures(cfg, args.show_dir)
    if args.out:
        use_output(cfg, args.out)
    # It joins the processes; what is refused is so before.
    notes += adapt_to_machine(cfg)
    if args.tta:
        use_tta(cfg)
    return cfg, notes


def use_pictures(cfg: Config, folder: str) -> None:
    """Let a hook of the host, or for it, paint every prediction.

    Raises:
        UserError: If the config has no visualization hook, or there are
            several processes, of which the hosts let the first alone paint.
    """
    processes = number_of_processes(cfg.launcher)
    if processes > 1:
        raise UserError(
            f'--show-dir {folder} paints every image in one process, got '
            f'{processes}: leave --launcher out, or --show-dir'
        )
    if cfg.default_scope == 'mmpretrain':
        hook = {'type': 'mmscope.ClassPicturesHook', 'out_dir': folder}
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
        cfg.setdefault('visualizer', {'type': 'UniversalVisualizer'})
        return
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError(
            '--show-dir needs default_hooks.visualization in the config, '
            'dict(type="SegVisualizationHook") in mmsegmentation, '
            'dict(type="DetVisualizationHook") in mmdetection'
        )
    hook.draw, hook.interval = True, 1
    cfg.visualizer.save_dir = folder


def use_output(cfg: Config, out: str) -> None:
    """Let the evaluator write predictions.

    Raises:
        UserError: If the name does not fit the host, or no evaluator of the
            config writes.
    """
    evaluators = cfg.test_evaluator
    if not isinstance(evaluators, (list, tuple)):
        evaluators = [evaluators]
    if cfg.default_scope == 'mmseg':
        names = [type_name(evaluator) for evaluator in evaluators]
        if not any(name.endswith('IoUMetric') for name in names):
            raise UserError(
                f'--out {out}: masks are written by an IoUMetric, and '
                f'test_evaluator has {", ".join(names) or "nothing"}: add '
                'dict(type="IoUMetric") to it'
            )
        for name, evaluator in zip(names, evaluators, strict=True):
            if name.endswith('IoUMetric'):
                evaluator.output_dir = out
    elif out.endswith('.pkl'):
        evaluators = [*evaluators, {'type': 'DumpResults'}]
        evaluators[-1]['out_file_path'] = out
    else:
        raise UserError(f'--out {out}: expected a .pkl file for this host')
    cfg.test_evaluator = list(evaluators)


@ending_cleanly()
def main(argv: list[str] | None = None) -> None:
    """Test."""
    args = parse_args(argv)
    hint = 'Name another folder with --work-dir'
    run_host('test', partial(prepare, args), hint)
