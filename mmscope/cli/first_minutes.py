r"""Time the first results of somebody who clones, or installs a wheel.

    python tools/misc/first_minutes.py --commit BEFORE --commit HEAD
        [--out docs/results/first_minutes.json] [--dry-run]

Each commit is cloned into an empty folder, and ``make demo`` runs there with
an empty cache: nothing is downloaded or compiled yet. Then its wheel goes
into a new environment, where its own model looks at pictures. FILE.json keeps
what other commits took; the page beside it is written anew. Takes 10 GB of
disk, half an hour a commit, and an hour where mmcv is compiled; the machine
should do nothing else. --dry-run prints what would be run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from mmscope.benchmark.setting import describe_setting
from mmscope.cli.arguments import tool_parser
from mmscope.errors import UserError, user_errors
from mmscope.runtime import ending_cleanly
from mmscope.whole_files import write_whole

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / 'docs/results/first_minutes.json'
STACK = 'onedl'
# Seconds in which a command that is stopped ends what it started.
PATIENCE_S = 10.0
# Lines of `make demo` that end a stage: of every version so far.
MARKS = {
    'environment': rf'{STACK} environment .*\(\d+ s\)',
    'picture': r'pictures: ',
    'epoch': r'  step +50 of ',
    'training': r'\[.* s\] evaluating every threshold',
}
STAGES = {
    'clone': 'the clone',
    'environment': 'an environment',
    'picture': 'the first picture',
    'epoch': 'an epoch of a training of your own',
    'training': 'the whole training',
    'demo': 'thresholds are swept, pictures drawn: the end of `make demo`',
    'wheel torch': 'torch',
    'wheel': 'the wheel and the hosts',
    'wheel picture': 'the first picture',
}
TITLES = {'clone': 'from `git clone`', 'wheel torch': 'from an empty folder'}
HEAD = """\
# The first minutes

Seconds until somebody who clones and says `make demo` has, and somebody who
installs a wheel. Caches are empty: all is downloaded, and compiled where it
must be. Written by

    {command}

"""
FOOT = """

-: that version has no such thing to run, or failed before.

"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        '--commit',
        action='append',
        help='what is cloned; several in the order of the columns '
        '(default: HEAD)',
    )
    parser.add_argument(
        '--out', type=Path, default=OUT, metavar='FILE.json', help='results'
    )
    parser.add_argument(
        '--python', default='python3.11', help='of the environments'
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='print the commands alone'
    )
    return parser.parse_args(argv)


class Clock:
    """Runs commands in a folder, as a newcomer to the machine would.

    Args:
        folder (Path): Empty; caches go there, too.
        dry_run (bool): Whether commands are printed and not run.
    """

    def __init__(self, folder: Path, dry_run: bool) -> None:
        self.folder, self.dry_run = folder, dry_run
        self.seconds: dict[str, float] = {}
        self.start = time.perf_counter()

    def run(
        self,
        stage: str,
        *command: object,
        cwd: Path | None = None,
        marks: dict[str, str] | None = None,
    ) -> None:
        """Run a command, and note when it ends and says what it does.

        Args:
            stage (str): What its end is noted as; '' for nothing.
            *command (object): Program and arguments.
            cwd (Path | None): None for the folder. Defaults to None.
            marks (dict | None): Stages that lines end, as patterns.
                Defaults to None.

        Raises:
            UserError: If it fails, with the end of its output.
        """
        words = [str(word) for word in command]
        cwd = cwd or self.folder
        print(f'$ cd {cwd} && {shlex.join(words)}', flush=True)
        if self.dry_run:
            return
        lines = []
        with subprocess.Popen(
            words,
            cwd=cwd,
            env=self.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                for line in process.stdout:
                    lines.append(line)
                    for mark, pattern in (marks or {}).items():
                        if re.match(pattern, line):
                            self.note(mark)
                process.wait()
            finally:
                end_group(process)
        if process.returncode:
            said = ''.join(lines[-30:])
            raise UserError(f'{said}{shlex.join(words)} failed')
        self.note(stage)

    def note(self, stage: str) -> None:
        """Keep when a stage ended first."""
        if stage and stage not in self.seconds:
            self.seconds[stage] = round(time.perf_counter() - self.start, 1)
            print(f'  {self.seconds[stage]:7.1f} s {stage}', flush=True)

    def variables(self) -> dict[str, str]:
        """Return the variables of a child: no cache and nothing of ours."""
        ours = ('PYTHONPATH', 'VIRTUAL_ENV', 'PIP_CACHE_DIR', 'MAKEFLAGS')
        kept = {k: v for k, v in os.environ.items() if k not in ours}
        cache = str(self.folder / 'cache')
        return {**kept, 'XDG_CACHE_HOME': cache, 'PYTHONUNBUFFERED': '1'}


def end_group(process: subprocess.Popen) -> None:
    """End what a command started, and itself.

    By SIGTERM first: the set-up has commands in sessions of their own, and
    ends them.

    Args:
        process (subprocess.Popen): Leads a session.
    """
    with suppress(ProcessLookupError):
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def time_clone(clock: Clock, commit: str, python: str) -> Path:
    """Clone, and run ``make demo``.

    Args:
        clock (Clock): Notes the stages.
        commit (str): What is cloned.
        python (str): Of the environment.

    Returns:
        Path: The clone.
    """
    clone = clock.folder / 'clone'
    clock.run('', 'git', 'clone', '-q', '--no-hardlinks', ROOT, clone)
    clock.run('clone', 'git', 'checkout', '-q', commit, cwd=clone)
    make = ('make', 'demo', f'STACK={STACK}', f'PYTHON={python}')
    clock.run('demo', *make, cwd=clone, marks=MARKS)
    return clone


def time_wheel(clock: Clock, clone: Path, python: str) -> None:
    """Install a wheel into a new environment, and let it predict.

    Args:
        clock (Clock): Notes the stages.
        clone (Path): Of :func:`time_clone`; the wheel is built in it.
        python (str): Of the environment.
    """
    own = clone / f'.venv-{STACK}/bin/python'
    options = ('--no-build-isolation', '--no-deps', '-w', clock.folder)
    clock.run('', own, '-m', 'pip', 'wheel', *options, clone)
    shutil.rmtree(clock.folder / 'cache', ignore_errors=True)
    (wheel,) = [*clock.folder.glob('*.whl')] or ['mmscope.whl']
    torch = ('-r', clone / f'requirements/build-{STACK}.txt')
    env = clock.folder / 'env'
    pip = (env / 'bin/python', '-m', 'pip', 'install', '-q')
    clock.start = time.perf_counter()
    clock.run('', python, '-m', 'venv', env)
    clock.run('wheel torch', *pip, *torch)
    clock.run('wheel', *pip, f'{wheel}[{STACK}]')
    command = env / 'bin/mmscope'
    if clock.dry_run or command.exists():
        clock.run('wheel picture', command, 'demo', '--first-look')


def measure(commit: str, python: str, dry_run: bool) -> dict:
    """Time a commit.

    Args:
        commit (str): A name that git knows.
        python (str): Of the environments.
        dry_run (bool): Whether nothing is run.

    Returns:
        dict: ``commit``, ``date`` (of the commit), machine, ``seconds`` by
        stage, and ``failed``: the command that did, None if all is timed.

    Raises:
        UserError: If there is no such commit.
    """
    git = ('git', 'log', '-1', '--format=%h %cs', commit)
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f'--commit {commit}: {done.stderr.strip()}')
    name, date = done.stdout.split()
    setting, failed = describe_setting(), None
    with TemporaryDirectory(prefix='first_minutes_') as folder:
        clock = Clock(Path(folder), dry_run)
        try:
            clone = time_clone(clock, name, python)
            time_wheel(clock, clone, python)
        except UserError as error:
            # What was timed before is not lost.
            print(error)
            # Its folder is gone soon, and says nothing to others.
            failed = str(error).splitlines()[-1].replace(f'{folder}/', '')
    return {
        'commit': name,
        'date': date,
        **{key: setting[key] for key in ('machine', 'cores', 'load')},
        'seconds': clock.seconds,
        'failed': failed,
    }


def page(runs: list[dict]) -> str:
    """Write the table of all runs.

    Args:
        runs (list[dict]): Of :func:`measure`, one a column.

    Returns:
        str: Markdown.
    """
    cells = [['', *(f'{run["commit"]}, {run["date"]}' for run in runs)]]
    cells.append(['---', *('---:' for _ in runs)])
    for stage, title in STAGES.items():
        if stage in TITLES:
            cells.append([f'**{TITLES[stage]}**', *('' for _ in runs)])
        found = [run['seconds'].get(stage) for run in runs]
        cells.append(
            [title, *('-' if s is None else f'{s:.0f}' for s in found)]
        )
    table = '\n'.join(f'| {" | ".join(row)} |' for row in cells)
    command = 'python tools/misc/first_minutes.py' + ''.join(
        f' --commit {run["commit"]}' for run in runs
    )
    notes = [
        f'- {run["commit"]}: {run["cores"]} cores of {run["machine"]}, load '
        f'average {run["load"]} before it began'
        + (f'; ended where {run["failed"]}' if run['failed'] else '')
        for run in runs
    ]
    return (
        HEAD.format(command=command) + table + FOOT + '\n'.join(notes) + '\n'
    )


@ending_cleanly()
def main(argv: list[str] | None = None) -> None:
    """Measure, keep, and write the page."""
    args = parse_args(argv)
    with user_errors(OSError):
        runs = []
        if args.out.is_file():
            runs = json.loads(args.out.read_text(encoding='utf-8'))
        for commit in args.commit or ['HEAD']:
            run = measure(commit, args.python, args.dry_run)
            if args.dry_run:
                continue
            runs = [old for old in runs if old['commit'] != run['commit']]
            runs = sorted([*runs, run], key=lambda one: one['date'])
            write_whole(args.out, json.dumps(runs, indent=1) + '\n')
            write_whole(args.out.with_suffix('.md'), page(runs))
