"""A virtual environment and the commands that run in it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .stacks import ROOT, SetupError, Stack, foreign_distributions

HEARTBEAT = 30  # seconds between two lines of a step that is still running

# Imports each name in one fresh process and prints, as JSON, what failed.
PROBE = """
import importlib, json, sys
broken = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        broken[name] = f'{type(error).__name__}: {error}'
print('\\n' + json.dumps(broken))
"""
LIST = """
import json
from importlib import metadata
print(json.dumps([d.metadata['Name'] or '' for d in metadata.distributions()]))
"""


def say(text: str) -> None:
    """Print one progress line at once."""
    print(text, flush=True)


@dataclass
class Environment:
    """A virtual environment and the commands that run in it.

    Args:
        stack (Stack): What is installed in it.
        folder (Path): Where it is.
        cuda (bool): Whether mmcv's CUDA ops are compiled too.
        ops (bool): Whether mmcv's ops are compiled, which detection needs.
    """

    stack: Stack
    folder: Path
    cuda: bool = False
    ops: bool = True
    descriptors: list[int] = field(default_factory=list)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / 'bin/python'

    @property
    def state(self) -> Path:
        """Where stamps and logs are."""
        return self.folder / '.setup'

    def variables(self) -> dict[str, str]:
        """Return the variables of a child: nothing foreign is importable."""
        foreign = ('PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV')
        kept = {k: v for k, v in os.environ.items() if k not in foreign}
        kept.update(PYTHONNOUSERSITE='1', PIP_DISABLE_PIP_VERSION_CHECK='1')
        return kept

    def output(self, code: str, *arguments: str) -> str | None:
        """Return the last line that Python code prints, None if it dies."""
        # Not in the checkout: its folders must not pass for packages.
        process = subprocess.run(
            [self.python, '-c', code, *arguments],
            env=self.variables(),
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        lines = process.stdout.strip().splitlines()
        return lines[-1] if process.returncode == 0 and lines else None

    def broken(self, modules: Sequence[str]) -> dict[str, str]:
        """Return the modules that cannot be imported, each with its error."""
        if not modules:
            return {}
        answer = self.output(PROBE, *modules)
        if answer is not None:
            return json.loads(answer)
        if len(modules) == 1:
            return {modules[0]: 'the interpreter crashed on importing it'}
        single = [self.broken([module]) for module in modules]
        return {name: text for one in single for name, text in one.items()}

    def foreign(self) -> list[str]:
        """Return installed distributions of the other stack."""
        installed = json.loads(self.output(LIST) or '[]')
        return foreign_distributions(self.stack, installed)

    def run(
        self,
        title: str,
        command: Sequence[str | Path],
        progress: Callable[[], str] = str,
        **variables: str,
    ) -> None:
        """Run a command; its output goes into a log.

        Args:
            title (str): Stem of the log file.
            command (Sequence): The command and its arguments.
            progress (Callable): Returns what a heartbeat line adds.
            **variables (str): Further environment variables.

        Raises:
            SetupError: If it fails; with the end of its output.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        path = self.state / f'{title}.log'
        with path.open('a') as log:
            print(f'\n$ {" ".join(map(str, command))}', file=log, flush=True)
            process = subprocess.Popen(
                command,
                env={**self.variables(), **variables},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=self.descriptors,
            )
            wait(process, progress)
        if process.returncode:
            tail = path.read_text(errors='replace').splitlines()[-30:]
            raise SetupError(
                '\n'.join(tail) + f'\n{title} failed; all output: {path}'
            )

    def pip(self, title: str, *arguments: str | Path) -> None:
        """Install into the environment; the stack's versions are fixed."""
        files = (self.stack.build_file, self.stack.hosts_file)
        fixed = [text for path in files for text in ('-c', str(path))]
        command = [self.python, '-m', 'pip', 'install', *fixed, *arguments]
        self.run(title, command)


def wait(process: subprocess.Popen, progress: Callable[[], str]) -> None:
    """Wait for a child and say every half minute that it is alive."""
    start = time.monotonic()
    try:
        while process.poll() is None:
            try:
                process.wait(HEARTBEAT)
            except subprocess.TimeoutExpired:
                seconds = time.monotonic() - start
                say(f'      {seconds:.0f} s {progress()}'.rstrip())
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
