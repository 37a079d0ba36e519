"""mmsegmentation data sets that check their folder before loading it."""

from __future__ import annotations

import os.path as osp

from mmseg.datasets import ADE20KDataset as HostADE20KDataset
from mmseg.datasets import BaseSegDataset

from mmscope.registry import DATASETS

from .layout import check_ade20k, check_camvid


class _CheckedLayout:
    """Runs ``check_layout`` before the host lists the files.

    Remote storage (``backend_args``), file lists (``ann_file``) and other
    file endings are left to the host.
    """

    @staticmethod
    def check_layout(root: str, image_dir: str, mask_dir: str | None) -> int:
        """Raise a ``DatasetLayoutError`` if the folder is not right."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict]:
        """Check the folder, then list its images and masks.

        Returns:
            list[dict]: One entry per image, as the host builds them.

        Raises:
            DatasetLayoutError: If the folder is absent, incomplete or of
                another release.
        """
        released = (self.img_suffix, self.seg_map_suffix) == ('.jpg', '.png')
        if released and not self.backend_args and not self.ann_file:
            # The host has joined the prefixes to the root already.
            self.check_layout(
                self.data_root or '.',
                osp.abspath(self.data_prefix['img_path']),
                self._mask_dir(),
            )
        return super().load_data_list()

    def _mask_dir(self) -> str | None:
        mask_dir = self.data_prefix.get('seg_map_path')
        return osp.abspath(mask_dir) if mask_dir else None


@DATASETS.register_module()
class ADE20KDataset(_CheckedLayout, HostADE20KDataset):
    """ADE20K (SceneParse150, 150 classes) that names a wrong layout.

    Takes the arguments of mmsegmentation's ``ADE20KDataset``.

    .. code-block:: python

        dataset = dict(
            type='mmscope.ADE20KDataset',
            data_root='data/ade/ADEChallengeData2016',
            data_prefix=dict(
                img_path='images/training',
                seg_map_path='annotations/training'))
    """

    check_layout = staticmethod(check_ade20k)


@DATASETS.register_module()
class CamVidDataset(_CheckedLayout, BaseSegDataset):
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
    """

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
