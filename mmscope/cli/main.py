"""The command `mmscope`: one name for every tool."""

from __future__ import annotations

import sys
from importlib import import_module

from mmscope.version import __version__

# Command -> its module in this room, and what it does.
COMMANDS = {
    'demo': ('demo', 'see a model exit, then train one: no data needed'),
    'train': ('train', 'train a config of any host'),
    'test': ('test', 'evaluate a checkpoint'),
    'sweep': ('sweep_threshold', 'evaluate every exit threshold in one pass'),
    'flops': ('get_flops', 'count parameters and costs'),
    'infer': ('infer', 'predict many images into a table'),
    'benchmark': ('benchmark', 'measure speed and memory'),
    'show': ('show_scope', 'draw importance, refined regions and exits'),
    'show-reduction': ('show_reduction', 'draw kept and merged tokens'),
    'page': ('page', 'look at images in the browser, with a slider'),
    'convert': ('vim_to_mmscope', 'convert a released checkpoint'),
    'publish': ('publish', 'make a folder for others of a checkpoint'),
    'config': ('config', 'list, print or copy a config of the package'),
    'scenes': ('make_demo_scenes', 'write rendered scenes as a data set'),
    'doctor': (
        'collect_env',
        'say what is installed and what fixes the rest; --data CONFIG opens '
        'every file of its data sets',
    ),
}


def usage() -> str:
    """Describe all commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [
        f'  {name:<{width}}  {text}' for name, (_, text) in COMMANDS.items()
    ]
    return '\n'.join(
        [
            'usage: mmscope COMMAND ...',
            '',
            *lines,
            '',
            '`mmscope COMMAND --help` lists its options. CONFIG is a file, or',
            'the name of a config that comes with the package, such as',
            'ade20k/mambascope_ti_upernet.',
        ]
    )


def main(argv: list[str] | None = None) -> None:
    """Run a command.

    Raises:
        SystemExit: With status 2 if there is no such command.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ('-h', '--help'):
        print(usage())
        return
    if argv[0] == '--version':
        print(__version__)
        return
    name, *options = argv
    if name not in COMMANDS:
        print(f'{usage()}\n\nerror: no command {name!r}', file=sys.stderr)
        raise SystemExit(2)
    sys.argv[0] = f'mmscope {name}'
    import_module(f'mmscope.cli.{COMMANDS[name][0]}').main(options)
