"""Write metafile.yml of each folder of configs, and model-index.yml.

    python tools/misc/metafiles.py [--check] [FOLDER ...]

Both are what OpenMMLab's ``mim`` and model zoos read. What a config costs to
train, the paper's result and ours are the lines of its own header;
parameters and MACs (convention of the paper, every image refined) are counted
while the model runs, a few seconds a config.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

import yaml

from mmscope.cli.arguments import add_check, tool_parser
from mmscope.cli.get_flops import count
from mmscope.cli.get_flops import parse_args as flops_args
from mmscope.runtime.configs import config_names, configs_folder
from mmscope.whole_files import write_whole

PAPER = {
    'Title': 'MambaScope: Coarse-to-Fine Scoping for Efficient Vision Mamba',
    'URL': 'https://arxiv.org/abs/2512.00647',
}
FIELDS = ('Data', 'Command', 'Cost', 'Paper', 'Ours')
# What a header also says, and a metafile does not.
OTHERS = ('Host', 'Weights', 'Theirs', "ViM's")
NAME, INDEX = 'metafile.yml', 'model-index.yml'


def read_header(path: Path) -> dict[str, str]:
    """Read ``Summary``, ``Host`` and the fields that a config's header has."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ''
    found, field = {'Summary': ''}, 'Summary'
    for line in text.splitlines():
        head, colon, rest = line.partition(':')
        if colon and head in (*FIELDS, *OTHERS):
            field, line = head, rest
        elif not line.strip():
            field = ''
        if field:
            found[field] = f'{found.get(field, "")} {line.strip()}'.strip()
    return found


def describe(name: str, path: Path) -> dict:
    """Describe a config, such as 'ade20k/vim_ti_upernet', for ``Models``."""
    header = read_header(path)
    counts = count(flops_args([str(path)]))
    metadata = {
        'Parameters': counts.params,
        'MACs': counts.costs.mean,
        'Input Size': list(counts.shape),
    }
    metadata.update({key: header[key] for key in FIELDS if key in header})
    return {
        'Name': name,
        'Summary': header['Summary'],
        'In Collection': name.partition('/')[0],
        'Config': f'configs/{name}.py',
        'Metadata': metadata,
    }


def metafile(folder: str, models: list[dict]) -> str:
    """Format the file of a folder."""
    content = {
        'Collections': [{'Name': folder, 'Paper': PAPER}],
        'Models': models,
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def index(folders: list[str]) -> str:
    """Format model-index.yml, which names the others."""
    names = [f'configs/{folder}/{NAME}' for folder in folders]
    return yaml.safe_dump({'Import': names})


def by_folder() -> dict[str, dict[str, Path]]:
    """Group the configs of the package by their folder."""
    found: dict[str, dict[str, Path]] = {}
    for name, path in config_names().items():
        found.setdefault(name.partition('/')[0], {})[name] = path
    return found


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'folders',
        nargs='*',
        metavar='FOLDER',
        help='of configs/, such as ade20k (default: all)',
    )
    add_check(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    groups, root = by_folder(), configs_folder()
    if unknown := set(args.folders) - set(groups):
        sys.exit(f'error: no folder {sorted(unknown)}, only {sorted(groups)}')
    wanted = args.folders or sorted(groups)
    files = {root.parent / INDEX: index(sorted(groups))}
    for folder in wanted:
        models = [describe(*entry) for entry in groups[folder].items()]
        files[root / folder / NAME] = metafile(folder, models)
    stale = [
        path
        for path, text in files.items()
        if not path.is_file() or path.read_text() != text
    ]
    for path in [] if args.check else stale:
        write_whole(path, files[path])
    if args.check and stale:
        sys.exit(f'error: not up to date: {", ".join(map(str, stale))}')
    print(f'{len(files)} files, {len(stale)} of them new')
