"""mmsegmentation data sets that check their folder before loading it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg.datasets import ADE20KDataset as HostADE20KDataset
from mmseg.datasets import BaseSegDataset

from mmscope.errors import DatasetLayoutError
from mmscope.registry import DATASETS

from .checked_pairs import CheckedPairs
from .layout import check_ade20k, check_camvid, check_pairs


@DATASETS.register_module()
class ADE20KDataset(CheckedPairs, HostADE20KDataset):
    """ADE20K (SceneParse150, 150 classes) that names a wrong layout.

    Takes the arguments of mmsegmentation's ``ADE20KDataset``, and
    ``strict``.

    .. code-block:: python

        dataset = dict(
            type='mmscope.ADE20KDataset',
            data_root='data/ade/ADEChallengeData2016',
            data_prefix=dict(
                img_path='images/training',
                seg_map_path='annotations/training'))

    Args:
        strict (bool): Whether what is else one warning is an error: images
            that EXIF turns, ids that look shifted. Defaults to False.
        **kwargs (object): Of the host's.
    """

    name = 'ADE20K'
    check_layout = staticmethod(check_ade20k)


@DATASETS.register_module()
class CamVidDataset(CheckedPairs, BaseSegDataset):
    """CamVid, 11 classes, with ADE20K's label convention (0 = unlabelled).

    Takes the arguments of mmsegmentation's ``BaseSegDataset``.

    .. code-block:: python

        dataset = dict(
            type='mmscope.CamVidDataset',
            data_root='data/camvid',
            data_prefix=dict(
                img_path='images/test', seg_map_path='annotations/test'))

    Args:
        img_suffix (str): Ending of the images. Defaults to '.jpg'.
        seg_map_suffix (str): Ending of the masks. Defaults to '.png'.
        reduce_zero_label (bool): Whether id 0 becomes the ignored 255 and
            the classes start at 0. Defaults to True.
        strict (bool): Whether what is else one warning is an error: images
            that EXIF turns, ids that look shifted. Defaults to False.
        **kwargs (object): Of the host's.
    """

    name = 'CamVid'

    METAINFO = {
        'classes': (
            'Sky',
            'Building',
            'Pole',
            'Road',
            'Pavement',
            'Tree',
            'SignSymbol',
            'Fence',
            'Car',
            'Pedestrian',
            'Bicyclist',
        ),
        'palette': [
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    }
    check_layout = staticmethod(check_camvid)

    def __init__(
        self,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        reduce_zero_label: bool = True,
        **kwargs: object,
    ) -> None:
        super().__init__(
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            reduce_zero_label=reduce_zero_label,
            **kwargs,
        )


@DATASETS.register_module()
class SegmentationFolder(CheckedPairs, BaseSegDataset):
    """A folder of images and one of masks, of any classes.

    Takes the arguments of mmsegmentation's ``BaseSegDataset``, and
    ``strict``.

    .. code-block:: python

        dataset = dict(
            type='mmscope.SegmentationFolder',
            data_root='data/mine',
            data_prefix=dict(
                img_path='images/training',
                seg_map_path='annotations/training'),
            metainfo=dict(classes=('ground', 'cat', 'dog')))

    Args:
        strict (bool): Whether what is else one warning is an error: images
            that EXIF turns, ids that look shifted. Defaults to False.
        **kwargs (object): Of the host's.

    Raises:
        DatasetLayoutError: If ``metainfo`` names no classes, or the folders
            are not right.
    """

    name = 'the data set'

    @property
    def num_ids(self) -> int:
        """Classes that ``metainfo`` names."""
        return len(self.metainfo['classes'])

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping | None = None) -> dict:
        found = super()._load_metainfo(metainfo)
        classes = found.get('classes')
        if not classes or isinstance(classes, str):
            raise DatasetLayoutError(
                f'metainfo.classes is {classes!r}, expected the names of the '
                'classes in the order of the ids, such as metainfo=dict('
                "classes=('ground', 'cat')), or a text file of them"
            )
        return found

    def check_layout(
        self, root: str, image_dir: str, mask_dir: str | None, **options: Any
    ) -> int:
        """Check the folders against the classes of ``metainfo``."""
        fix = 'Set data_root and data_prefix to the folders that hold them'
        classes = (self.num_ids, self.name, fix)
        return check_pairs(image_dir, mask_dir, *classes, **options)
