"""From a config to a run: machine, checkpoints, exit choice, processes."""

from .adapt import (
    adapt_to_machine,
    batch_note,
    check_pretrained,
    drop_pretrained,
    is_first_process,
    number_of_processes,
    use_amp,
)
from .checkpoints import (
    latest_checkpoint,
    load_model_weights,
    read_checkpoint,
    reading_plain,
)
from .config import check_host, load_config, read_config, type_name, walk
from .disk import disk_errors
from .exit_choice import ExitChoice, result_sentence
from .exit_gate import gate_hooks, set_exit_threshold
from .folder_lock import alone_in
from .processes import ending_cleanly, leaving_together
from .step_seed import StepSeedHook
from .tta import use_tta

__all__ = [
    'ExitChoice',
    'StepSeedHook',
    'adapt_to_machine',
    'alone_in',
    'batch_note',
    'check_host',
    'check_pretrained',
    'disk_errors',
    'drop_pretrained',
    'ending_cleanly',
    'gate_hooks',
    'is_first_process',
    'latest_checkpoint',
    'leaving_together',
    'load_config',
    'load_model_weights',
    'number_of_processes',
    'read_checkpoint',
    'read_config',
    'reading_plain',
    'result_sentence',
    'set_exit_threshold',
    'type_name',
    'use_amp',
    'use_tta',
    'walk',
]
