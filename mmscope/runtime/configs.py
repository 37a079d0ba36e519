"""The configs that come with the package, by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from mmscope.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
# The data sets of the paper: a bare name means theirs.
PAPER = ('imagenet', 'ade20k', 'coco')
# In a wheel (where OpenMMLab's `mim` looks, too), and in a checkout.
FOLDERS = (PACKAGE / '.mim' / 'configs', PACKAGE.parent / 'configs')


def configs_folder() -> Path:
    """Return where the configs are.

    Raises:
        UserError: If this installation has none.
    """
    for folder in FOLDERS:
        if folder.is_dir():
            return folder
    raise UserError(
        f'this installation has no configs (looked in {FOLDERS[0]} and '
        f'{FOLDERS[1]}): install mmscope again, or name a config by its path'
    )


def config_names() -> dict[str, Path]:
    """List the configs of the package: 'ade20k/vim_ti_upernet' -> file."""
    folder = configs_folder()
    found = sorted(folder.rglob('*.py'))
    return {
        path.relative_to(folder).with_suffix('').as_posix(): path
        for path in found
        if '_base_' not in path.parts
    }


def find_config(name: str | Path) -> Path:
    """Find a config by its path, or one of the package by its name.

    Args:
        name (str | Path): A file; or the name of a config of the package
            with its folder, 'camvid/vim_ti_upernet'; or without, where that
            is clear: 'vim_ti_upernet' is that of the paper's data sets.

    Returns:
        Path: The file.

    Raises:
        UserError: If there is none, or several have that name.
    """
    if Path(name).is_file():
        return Path(name)
    names = config_names()
    wanted = Path(name).as_posix().removesuffix('.py')
    wanted = wanted.removeprefix('configs/')
    if wanted in names:
        return names[wanted]
    inside = [key for key in names if key.startswith(f'{wanted}/')]
    if wanted and inside:
        raise UserError(
            f'{name} is a folder of {len(inside)} configs: name one of them, '
            f'such as {inside[0]}'
        )
    same = [key for key in names if key.rpartition('/')[2] == wanted]
    meant = _meant(same)
    if meant:
        return names[meant]
    if same:
        raise UserError(
            f'several configs are called {name}: say {" or ".join(same)}'
        )
    shown = str(name) or repr('')
    raise UserError(
        f'config {shown} does not exist: it is no file (looked in '
        f'{Path.cwd()}) and no config of the package (`mmscope config` lists '
        f'them){_similar(Path(name), names)}'
    )


def _meant(same: list[str]) -> str | None:
    """Of configs that share a name, the one that the name alone means."""
    paper = [key for key in same if key.partition('/')[0] in PAPER]
    clear = [keys[0] for keys in (same, paper) if len(keys) == 1]
    return clear[0] if clear else None


def work_name(path: Path) -> str:
    """Name what a config's runs are kept under, apart from other configs.

    Args:
        path (Path): Of the config.

    Returns:
        str: Its name; with its folder if it is one of the package, and the
        name alone means another one of them.
    """
    same = {
        key: file.resolve()
        for key, file in config_names().items()
        if key.rpartition('/')[2] == path.stem
    }
    mine = [key for key, file in same.items() if file == path.resolve()]
    is_clear = not mine or _meant([*same]) == mine[0]
    return path.stem if is_clear else mine[0]


def _similar(path: Path, names: dict[str, Path]) -> str:
    """' Did you mean ...' with what is called nearly the same."""
    near = [p for p in path.parent.glob('*.py') if path.parent.is_dir()]
    known = {file.stem: name for name, file in names.items()}
    known.update({file.stem: str(file) for file in near})
    found = difflib.get_close_matches(path.stem, known, n=1)
    return f'. Did you mean {known[found[0]]}?' if found else ''
