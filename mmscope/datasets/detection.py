"""mmdetection's COCO data set, checked before it is loaded."""

from __future__ import annotations

import os.path as osp
from pathlib import Path

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from mmscope.errors import DatasetLayoutError
from mmscope.registry import DATASETS

from .checked import CheckedItems
from .coco_check import check_categories, check_images, check_size
from .coco_file import read_coco
from .coco_masks import check_masks, without_polygon
from .coco_objects import describe, left_out, num_left_out, sort_annotations
from .decoding import decode_bgr, naming
from .files import some
from .masks import turned_note


@DATASETS.register_module()
class CocoDetectionDataset(CheckedItems, CocoDataset):
    """Boxes and masks in COCO's format, refused where they are not right.

    Example::

        dataset = dict(
            type='mmscope.CocoDetectionDataset',
            data_root='data/coco',
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017/'),
        )

    What mmdet's ``CocoDataset`` makes of a good file is made here, too. A
    file or folder that is not right, classes that are not those of the file
    and masks that are asked for but absent are errors. Single annotations
    that mmdet leaves out are counted in one warning, with an example of each
    reason. The file is read once, as there; images of remote storage
    (``backend_args``) are not looked at.

    Args:
        strict (bool): Whether an annotation that is left out is an error,
            not a warning. Defaults to False.
        **kwargs (object): Of mmdet's ``CocoDataset``.
    """

    def __init__(self, strict: bool = False, **kwargs: object) -> None:
        self.strict = strict
        self._turned: list[str] = []
        self._number = 0
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Check file and images, then list the images with their objects.

        Returns:
            list[dict]: One entry per image, as the host builds them.

        Raises:
            DatasetLayoutError: If file, classes or images are not right.
        """
        # The host opens the file with this; evaluators find COCO again.
        self.COCOAPI = self._open
        try:
            return super().load_data_list()
        finally:
            del self.COCOAPI

    def filter_data(self) -> list[dict]:
        """Filter as the host does, and refuse to go on with nothing.

        Returns:
            list[dict]: Images that ``filter_cfg`` keeps.

        Raises:
            DatasetLayoutError: If it keeps none.
        """
        kept = super().filter_data()
        if not kept:
            raise DatasetLayoutError(
                f'annotation file {self._name()}: none of its '
                f'{len(self.data_list)} images is left by filter_cfg='
                f'{self.filter_cfg}. Choose another file, or set '
                'filter_empty_gt=False to train on images without objects.'
            )
        return kept

    def prepare_data(self, idx: int) -> object:
        """Look at the image, then run the pipeline.

        Args:
            idx (int): Index of the image.

        Returns:
            object: What the pipeline gives.

        Raises:
            DatasetLayoutError: If the image is missing, damaged or of
                another size than the annotations say.
        """
        if self._remote:
            return super().prepare_data(idx)
        info = self.get_data_info(idx)
        self._look(info)
        with naming(info['img_path']):
            return super().prepare_data(idx)

    def check_item(self, index: int) -> None:
        """Decode an image; annotations are checked when they are read."""
        info = self.get_data_info(index)
        self._number += 1
        if check_size(info['img_path'], info, self._name()):
            self._turned.append(info['img_path'])
        decode_bgr(Path(info['img_path']).read_bytes(), info['img_path'])

    def doubts(self) -> str:
        """Say what was left out, and which images loading turns."""
        turned = turned_note(self._turned, self._number, 'boxes')
        return ' '.join([*self.said, *([f'{turned}.'] if turned else [])])

    def _look(self, info: dict) -> None:
        if check_size(info['img_path'], info, self._name()):
            self.warn_of_turned(info['img_path'], 'boxes')

    def _open(self, path: str) -> COCO:
        content = read_coco(path, self._name(), self.test_mode)
        self._check(content)
        api = COCO()
        api.dataset = content
        api.createIndex()
        api.img_ann_map, api.cat_img_map = api.imgToAnns, api.catToImgs
        return api

    def _check(self, content: dict) -> None:
        name = self._name()
        if 'img' not in self.data_prefix:
            raise DatasetLayoutError(
                f'data_prefix={self.data_prefix!r} names no folder of images:'
                " set data_prefix=dict(img='FOLDER/'), below data_root"
            )
        classes = self.metainfo['classes']
        check_categories(content, classes, name)
        used = self._check_objects(content, name)
        if any(
            getattr(t, 'with_mask', False) for t in self.pipeline.transforms
        ):
            check_masks(content, used, name, scored=self.test_mode)
            self._warn_of_polygons(content, used, name)
        if not self._remote:
            folder = self.data_prefix['img'] or '.'
            turned = check_images(content, folder, name, 50 * self.sampling)
            self.warn(turned and f'{name}: {turned}.')

    def _check_objects(self, content: dict, name: str) -> np.ndarray:
        """Report what is left out; return which annotations are not."""
        classes = set(self.metainfo['classes'])
        ids = [c['id'] for c in content['categories'] if c['name'] in classes]
        found = sort_annotations(content, ids)
        annotations = content['annotations']
        used = ~left_out(found, len(annotations))
        text = describe(found, content)
        crowds = [bool(a.get('iscrowd')) for a in annotations]
        if annotations and not self.test_mode and not (used > crowds).any():
            if used.any():
                text = f'all {used.sum():,} usable annotations are crowds'
            raise DatasetLayoutError(
                f'annotation file {name} has nothing to train on: {text}. '
                'Crowds (iscrowd=1) are regions of many, which are ignored; '
                'single objects have 0.'
            )
        if text and self.strict and num_left_out(found):
            raise DatasetLayoutError(f'annotation file {name}: {text}.')
        if text:
            note = (
                '. CocoMetric reads the file itself and counts boxes that '
                'are left out as objects that were not found'
            )
            # Crowds alone are no error, however strict.
            self.say(f'{name}: {text}{note if self.test_mode else ""}.')
        # The host would keep a box of infinite width.
        if len(found['not_finite']):
            bad = set(found['not_finite'].tolist())
            content['annotations'] = [
                a for i, a in enumerate(annotations) if i not in bad
            ]
        return np.delete(used, found['not_finite'])

    def _warn_of_polygons(
        self, content: dict, used: np.ndarray, name: str
    ) -> None:
        if ids := without_polygon(content, used):
            self.warn(
                f'{name}: objects without a polygon of three points, ignored '
                f'like crowds: {len(ids):,} (annotation ids {some(ids)}).'
            )

    def _name(self) -> str:
        return self.ann_file if self._remote else osp.abspath(self.ann_file)

    @property
    def _remote(self) -> bool:
        places = (self.ann_file, self.data_prefix.get('img', ''))
        return bool(self.backend_args) or any('://' in p for p in places)
