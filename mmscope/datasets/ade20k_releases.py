"""Tells the releases of ADE20K apart by what lies in a folder."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

ADE20K_URL = (
    'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip'
)
ADE20K_FIX = (
    f'Download SceneParse150 ({ADE20K_URL}), unpack it so that '
    'data/ade/ADEChallengeData2016/images/training exists, or name the '
    'folder in the environment variable MMSCOPE_ADE20K. For a small '
    'synthetic stand-in: mmscope scenes data/ade'
)


def describe_other_release(root: Path) -> str:
    """Name what lies at ``root`` or one level from it.

    Args:
        root (Path): Where SceneParse150 was expected.

    Returns:
        str: Sentences that say how to put it right; '' if unknown.
    """
    inside = root / 'ADEChallengeData2016'
    if (inside / 'images').is_dir():
        return (
            f'{root.absolute()} holds the folder ADEChallengeData2016, so '
            'SceneParse150 lies one level further down. Set data_root to '
            f'{inside} (MMSCOPE_ADE20K={inside}).'
        )
    for folder in (root, root.parent):
        year = _full_release_year(folder)
        if year:
            return (
                f'{folder.absolute()} looks like the full ADE20K release of '
                f'{year} (index_ade20k.* and *_seg.png with more than 3,000 '
                'object names), which is another download than the '
                f'150-class benchmark. {ADE20K_FIX}.'
            )
    if (root.parent / 'images' / 'training').is_dir():
        return (
            f'{root.absolute()} is not there, but {root.parent.absolute()} '
            'itself holds images/training, so SceneParse150 lies one level '
            f'further up. Set data_root to {root.parent} '
            f'(MMSCOPE_ADE20K={root.parent}).'
        )
    return ''


def _full_release_year(folder: Path) -> str:
    """'2016' or '2021' if ``folder`` is or holds a full release, else ''."""
    for year, name, index in (
        ('2016', 'ADE20K_2016_07_26', 'index_ade20k.mat'),
        ('2021', 'ADE20K_2021_17_01', 'index_ade20k.pkl'),
    ):
        if any(
            (place / index).is_file()
            for place in (folder, folder / name, folder / name / name)
        ):
            return year
        if (folder / name).is_dir() or (folder.name == name):
            return year
    if (folder / 'images' / 'ADE' / 'training').is_dir():
        return '2021'
    return '2016' if _holds_scene_folders(folder / 'images/training') else ''


def _holds_scene_folders(folder: Path) -> bool:
    """Whether images lie in scene folders next to ``*_seg.png`` files."""
    if not folder.is_dir():
        return False
    return any(True for _ in islice(folder.glob('*/**/*_seg.png'), 1))
