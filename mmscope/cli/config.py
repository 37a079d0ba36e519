"""List the configs of the package, print one, or copy it to change it.

mmscope config
mmscope config NAME
mmscope config NAME --copy FOLDER
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mmengine.config import Config

from mmscope.cli.arguments import tool_parser
from mmscope.errors import UserError, user_errors
from mmscope.runtime import read_config
from mmscope.runtime.configs import config_names, configs_folder, find_config
from mmscope.whole_files import drafted


def main(argv: list[str] | None = None) -> None:
    """Print names, a complete config, or where its copy is."""
    parser = tool_parser(__doc__)
    parser.add_argument('name', nargs='?', help='config (default: list all)')
    parser.add_argument(
        '--copy',
        metavar='FOLDER',
        help='copy it, with the bases that it inherits from, into this folder',
    )
    args = parser.parse_args(argv)
    if args.copy is not None and args.name is None:
        parser.error('--copy needs the NAME of a config')
    with user_errors(OSError):
        if args.name is None:
            print('\n'.join(config_names()))
        elif args.copy is None:
            print(read_config(find_config(args.name)).pretty_text)
        else:
            print(copy_config(find_config(args.name), Path(args.copy)))


def copy_config(path: Path, target: Path) -> Path:
    """Copy a config of the package and all that it inherits from.

    Raises:
        UserError: If the config is none of the package, or a file that
            differs is in the way.
    """
    root = configs_folder().resolve()
    path = path.resolve()
    if not path.is_relative_to(root):
        raise UserError(f'{path} is no config of the package in {root}')
    files, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file not in files:
            files.add(file)
            waiting += _bases(file)
    for file in sorted(files):
        _copy(file, target / file.relative_to(root))
    return target / path.relative_to(root)


def _bases(file: Path) -> list[Path]:
    """Files that a config names in ``_base_``."""
    named = Config._get_base_files(str(file))
    listed = [named] if isinstance(named, str) else named
    return [
        (file.parent / base).resolve() for base in listed if '::' not in base
    ]


def _copy(source: Path, copy: Path) -> None:
    if copy.exists() and copy.read_bytes() != source.read_bytes():
        raise UserError(f'{copy} exists and differs: name another folder')
    with drafted(copy) as draft:
        shutil.copyfile(source, draft)
