"""Every command of the pages is one that its tool takes, or says why not."""

from __future__ import annotations

import argparse
import re
import shlex
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmscope.cli.main import COMMANDS
from mmscope.registry import HOSTS
from mmscope.runtime.configs import find_config

from .pages import PAGES, ROOT, commands, name

# Words that pages leave open.
STAND_INS = {'SOURCE': 'vim', '...': '1'}
# First words of what no test runs, and why.
NOT_RUN = {
    'pip install': 'changes the environment; tests/test_setup has a wheel',
    'python -m pip': 'downloads',
    'mim': "another package's tool, tried by hand",
    'mkdocs': 'test_site.py builds',
    'ray start': 'needs other machines',
    'curl': 'test_serving.py asks the server',
}
# Tools that no test runs beyond their command line, and why.
NO_TEST = {
    'build_selective_scan': 'compiles for a GPU',
    'compare_speed': 'times two checkouts, for minutes',
    'import_times': 'times two checkouts, for minutes',
}
FOUND = {
    (name(page), shlex.join(words))
    for page in PAGES
    for words in commands(page)
}


class Accepted(Exception):
    """The parser took all words."""


def parse(module, words, monkeypatch):
    """Let a tool read its command line, and no more."""
    tool = import_module(f'mmscope.cli.{module}')
    if module == 'benchmark':
        tool.parse_args(words, '')
    elif module == 'sweep_threshold':
        tool.parse_sweep_args('', words)
    elif hasattr(tool, 'parse_args'):
        tool.parse_args(words)
    else:
        reading = argparse.ArgumentParser.parse_args

        def read(*args):
            reading(*args)
            raise Accepted

        monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', read)
        with pytest.raises(Accepted):
            tool.main(words)


def tool_of(words):
    """The module and options of a command of ours; None if it is not ours."""
    program, *rest = words
    program = Path(program).name if '/bin/' in program else program
    if program == 'mmscope':
        return COMMANDS[rest[0]][0], rest[1:]
    if program == 'python' and re.match(r'(\.\./)*tools/', rest[0]):
        script = ROOT / 'tools' / rest[0].partition('tools/')[2]
        assert script.is_file(), f'{rest[0]} does not exist'
        return script.stem, rest[1:]
    if program in ('tools/dist_train.sh', 'tools/dist_test.sh'):
        assert (ROOT / program).is_file()
        module = program.partition('_')[2].removesuffix('.sh')
        # The last word before the options is the number of processes.
        return module, rest[:-1]
    return None


def check_configs(words):
    """Check that the configs that a command names exist."""
    for word in words:
        if re.fullmatch(r'configs/.+\.py', word):
            assert list(ROOT.glob(word)), f'{word} does not exist'
        elif re.fullmatch(
            r'[a-z0-9]+/[a-z0-9_]+', word
        ) and not word.startswith(('data/', 'work_dirs/')):
            find_config(word)


def check_make(words):
    """Check that the Makefile knows targets and variables."""
    makefile = (ROOT / 'Makefile').read_text()
    for word in words:
        key, sign, _ = word.partition('=')
        pattern = rf'^{key} \?=' if sign else rf'^{key}:'
        assert re.search(pattern, makefile, re.M), f'make does not know {word}'


def check_script_of_host(script):
    """Check that a host that is installed has the script."""
    roots = [find_spec(host) for host in HOSTS]
    folders = [
        Path(spec.origin).parent / '.mim/tools' for spec in roots if spec
    ]
    folders = [folder for folder in folders if folder.is_dir()]
    if len(folders) < len(HOSTS):
        pytest.skip('needs the tools of all hosts')
    assert any((folder / script).is_file() for folder in folders)


@pytest.mark.parametrize(('page', 'command'), sorted(FOUND))
def test_a_command_is_taken_by_its_tool(page, command, monkeypatch):
    monkeypatch.setattr('mmscope.runtime.ExitChoice.read', lambda path: path)
    words = [STAND_INS.get(word, word) for word in shlex.split(command)]
    for first, why in NOT_RUN.items():
        if command.startswith(first):
            pytest.skip(why)
    if words[0] == 'make':
        check_make(words[1:])
    elif words[:1] == ['python'] and words[1].startswith('HOST/'):
        check_script_of_host(words[1].removeprefix('HOST/'))
    elif words[:2] == ['python', '-c']:
        compile(words[2], command, 'exec')
    elif words[1:3] == ['-m', 'pytest']:
        assert all((ROOT / word).exists() for word in words[3:4])
    else:
        found = tool_of(words)
        assert found, f'{page}: nobody knows how to check `{command}`'
        check_configs(words)
        if len(words) != 2 or words[0] != 'mmscope':
            # Text may name a command alone.
            parse(*found, monkeypatch)


def test_every_tool_of_the_pages_is_run_by_a_test():
    tests = [
        path.read_text()
        for path in (ROOT / 'tests').rglob('test_*.py')
        if path.parent.name != 'test_docs'
    ]
    modules = set()
    for _, command in FOUND:
        words = shlex.split(command)
        if words[0] != 'make' and (found := tool_of(words)):
            modules.add(found[0])
    assert len(modules) > 10
    runs = r"load_tool\(.*\b{0}\b|[/']{0}\.py'|cli\.{0}\b"
    missing = {
        module
        for module in modules - set(NO_TEST)
        if not any(re.search(runs.format(module), text) for text in tests)
    }
    assert not missing, 'no test runs them: write one, or say why in NO_TEST'
