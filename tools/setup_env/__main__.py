"""Create or refresh the virtual environment of one stack.

``make setup`` runs this with any Python 3. Each step leaves a stamp (a hash
of all that it depends on) in the environment: a second run repeats only what
changed, an interrupted run goes on at the step that it was in. Every run
imports what the steps installed: an mmcv whose ops do not load is installed
again, from a compiled wheel kept outside the checkout, or compiled anew.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

from .environment import Environment, say
from .stacks import ROOT, STACKS, SetupError, locked
from .steps import keep_ops, prepare, refresh


def parse_arguments() -> argparse.Namespace:
    """Return the command line; its defaults come from the environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    variables = os.environ
    parser.add_argument(
        '--stack',
        default=variables.get('STACK') or 'onedl',
        help='onedl (default) or openmmlab',
    )
    parser.add_argument(
        '--python',
        default=variables.get('PYTHON'),
        help='interpreter for the environment (default: search)',
    )
    parser.add_argument(
        '--venv',
        default=variables.get('VENV'),
        help='folder of the environment (default: .venv-<stack>)',
    )
    parser.add_argument(
        '--mmcv-cuda',
        action='store_true',
        default=variables.get('MMCV_CUDA') == '1',
        help="compile mmcv's CUDA ops too (needs nvcc of torch's version)",
    )
    parser.add_argument(
        '--ops',
        action='store_true',
        default=variables.get('OPS') == '1',
        help="compile mmcv's ops, which detection needs (10 to 20 minutes); "
        'ops that are there stay',
    )
    return parser.parse_args()


def set_up(arguments: argparse.Namespace) -> None:
    """Make or refresh the environment that the arguments describe.

    Args:
        arguments (argparse.Namespace): See `parse_arguments`.

    Raises:
        SetupError: If the user has to do something first.
    """
    start = time.monotonic()
    if arguments.stack not in STACKS:
        raise SetupError(
            f'STACK={arguments.stack!r} is unknown: use '
            + ' or '.join(f'STACK={name}' for name in STACKS)
        )
    stack = STACKS[arguments.stack]
    folder = ROOT / (arguments.venv or f'.venv-{stack.name}')
    ops = arguments.ops or arguments.mmcv_cuda
    env = Environment(stack, folder, arguments.mmcv_cuda, ops)
    with locked(folder.with_name(f'{folder.name}.lock')) as descriptor:
        env.descriptors.append(descriptor)
        prepare(env, arguments.python or None)
        keep_ops(env)
        worked = refresh(env)
    seconds = time.monotonic() - start
    state = 'is ready' if worked else 'was up to date'
    say(f'{stack.name} environment {folder} {state} ({seconds:.0f} s)')


def main() -> int:
    """Run set-up and return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        set_up(parse_arguments())
    except SetupError as error:
        print(f'set-up stopped: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            'set-up interrupted: run it again, it goes on from here',
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
