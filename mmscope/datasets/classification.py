"""mmpretrain's folder data set, checked before it is loaded."""

from __future__ import annotations

import os.path as osp
from pathlib import Path

from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from mmscope.errors import DatasetLayoutError
from mmscope.registry import DATASETS

from .checked import CheckedItems
from .class_folders import (
    check_same_classes,
    find_images,
    list_class_folders,
)
from .decoding import decode_bgr, read_header
from .files import some
from .lists import read_class_list, read_classes, read_image_list


@DATASETS.register_module()
class ImageFolder(CheckedItems, CustomDataset):
    """One folder per class, refused with the reason where it is not right.

    Example::

        dataset = dict(
            type='mmscope.ImageFolder',
            data_root='data/imagenet',
            data_prefix='val',
            same_classes_as='train',
        )

    Labels count the sorted class folders of ``same_classes_as``, so a class
    that a split lacks cannot shift the labels of the others. Remote storage
    and unlabelled data are left to the host.

    Args:
        class_list (str): Text file that names the class folders to use, one
            per line in the order of the labels; 'all' takes every one.
            Defaults to 'all'.
        same_classes_as (str): Folder in ``data_root`` whose class folders
            must be here too; '' or an absent one means this split's own.
            Defaults to ''.
        **kwargs (object): Of mmpretrain's ``CustomDataset``. ``ann_file`` is
            a list of 'path label' lines that is taken instead of folders.
    """

    def __init__(
        self,
        class_list: str = 'all',
        same_classes_as: str = '',
        **kwargs: object,
    ) -> None:
        self.class_list = class_list
        self.same_classes_as = same_classes_as
        if isinstance(kwargs.get('classes'), str):
            kwargs['classes'] = read_classes(kwargs['classes'])
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Check the folder, then list its images and labels.

        Returns:
            list[dict]: ``img_path`` and ``gt_label`` of every image.

        Raises:
            DatasetLayoutError: If folder or list is not as it should be.
        """
        if not self.with_label or '://' in self.img_prefix:
            return super().load_data_list()
        samples = self._listed() if self.ann_file else self._found()
        return [
            {'img_path': path, 'gt_label': label} for path, label in samples
        ]

    def check_item(self, index: int) -> None:
        """Decode an image."""
        path = self.get_data_info(index)['img_path']
        read_header(path)
        decode_bgr(Path(path).read_bytes(), path)

    def _listed(self) -> list[tuple[str, int]]:
        """Images and labels of the list."""
        number = None if self.CLASSES is None else len(self.CLASSES)
        rows = read_image_list(
            self.ann_file, self.img_prefix, number, 100 * self.sampling
        )
        return [(osp.join(self.img_prefix, name), i) for name, i in rows]

    def _found(self) -> list[tuple[str, int]]:
        """Images and labels of the class folders."""
        names = self._class_folders()
        self.folder_to_idx = {name: i for i, name in enumerate(names)}
        if self.CLASSES is None:
            self._metainfo['classes'] = names
        elif len(self.CLASSES) != len(names):
            raise DatasetLayoutError(
                f'metainfo names {len(self.CLASSES)} classes '
                f'({some(self.CLASSES)}), {osp.abspath(self.img_prefix)} has '
                f'{len(names)} class folders ({some(names)}). Name one for '
                'each folder, in their order, or none'
            )
        return find_images(self.img_prefix, names, self.extensions)

    def _class_folders(self) -> tuple[str, ...]:
        """Class folders in the order of the labels."""
        found = list_class_folders(self.img_prefix, self.extensions)
        if self.class_list != 'all':
            names = read_class_list(self.class_list, found)
            # Folders beyond the list are what the list leaves out.
            wanted = set(names)
            found = tuple(name for name in found if name in wanted)
            check_same_classes(
                self.img_prefix, found, names, osp.abspath(self.class_list)
            )
            return names
        if not self.same_classes_as:
            return found
        source = osp.abspath(osp.join(self.data_root, self.same_classes_as))
        if not osp.isdir(source):
            print_log(
                f'{source} does not exist: labels count the {len(found)} '
                f'class folders of {osp.abspath(self.img_prefix)} itself',
                'current',
            )
            return found
        names = list_class_folders(source, self.extensions)
        check_same_classes(self.img_prefix, found, names, source)
        return names
