"""What mmsegmentation's data sets check of images and their masks."""

from __future__ import annotations

import os.path as osp
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.fileio import list_from_file

from mmscope.errors import DatasetLayoutError

from .checked import CheckedItems
from .decoding import decode_bgr, naming, read_header
from .lists import read_names
from .masks import MaskIds, PairNotes, check_pair


class CheckedPairs(CheckedItems):
    """Runs ``check_layout`` before the host lists the files.

    Each pair is looked at again when it is loaded. Remote storage
    (``backend_args``) is left to the host; of a list of images (``ann_file``)
    the names alone are checked before.

    Args:
        strict (bool): Whether what looks wrong and need not be is an error,
            not a warning. Defaults to False.
        **kwargs (object): Of the host's data set.
    """

    name: str

    def __init__(self, strict: bool = False, **kwargs: object) -> None:
        self.strict = strict
        super().__init__(**kwargs)

    def check_layout(
        self, root: str, image_dir: str, mask_dir: str | None, **options: Any
    ) -> int:
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
        if not self.backend_args:
            if self.ann_file and not osp.isdir(self.ann_file):
                self._check_list()
            else:
                self._check_folders()
        try:
            return super().load_data_list()
        except OSError as error:
            # The host follows a link to a folder above for ever.
            raise DatasetLayoutError(
                f'{self.name}: {error.filename} cannot be listed: '
                f'{error.strerror}. Remove links to folders above.'
            ) from error

    def _check_folders(self) -> None:
        # The host has joined the prefixes to the root already.
        self.check_layout(
            self.data_root or '.',
            osp.abspath(self.data_prefix['img_path']),
            self._mask_dir(),
            reduce_zero_label=self.reduce_zero_label,
            ignore_index=self.ignore_index,
            strict=self.strict,
            num_samples=20 * self.sampling,
            suffixes=(self.img_suffix, self.seg_map_suffix),
        )

    def _check_list(self) -> None:
        """Refuse a list of which the host would read other names."""
        wanted = 'the name of an image without its ending'
        names = read_names(self.ann_file, 'image list', wanted)
        if names != list_from_file(self.ann_file):
            raise DatasetLayoutError(
                f'image list {self.ann_file} begins with the byte order mark '
                'of UTF-8, which the host would take for a part of the first '
                'name: save it without'
            )

    def prepare_data(self, idx: int) -> object:
        """Look at image and mask, then run the pipeline.

        Args:
            idx (int): Index of the image.

        Returns:
            object: What the pipeline gives.

        Raises:
            DatasetLayoutError: If one is damaged, they do not fit, or a
                label is out of range.
        """
        info = self.get_data_info(idx)
        if self.backend_args:
            sample = super().prepare_data(idx)
        else:
            self._look(info)
            with naming(info['img_path']):
                sample = super().prepare_data(idx)
        self._check_labels(sample, info)
        return sample

    def check_item(self, index: int) -> None:
        """Decode an image and its mask."""
        info = self.get_data_info(index)
        # Headers first: reading a pipe would wait for ever.
        if mask := info.get('seg_map_path'):
            self._checked.add(info['img_path'], mask)
        else:
            read_header(info['img_path'])
        decode_bgr(Path(info['img_path']).read_bytes(), info['img_path'])

    def doubts(self) -> str:
        """Say what looks wrong in the pairs checked, and need not be."""
        return self._checked.text()

    @cached_property
    def _checked(self) -> PairNotes:
        zero, nothing = self.reduce_zero_label, self.ignore_index
        return PairNotes(MaskIds(self.num_ids, zero, nothing, self.name))

    @property
    def num_ids(self) -> int:
        """Classes that the masks know; a config may use some of them."""
        return len(type(self).METAINFO['classes'])

    def _look(self, info: dict) -> None:
        mask = info.get('seg_map_path')
        if not mask:
            read_header(info['img_path'])
        elif check_pair(info['img_path'], mask, self.name):
            self.warn_of_turned(info['img_path'], 'masks')

    def _check_labels(self, sample: object, info: dict) -> None:
        """Check what goes to the loss."""
        found = sample.get('data_samples') if isinstance(sample, dict) else ()
        for one in found if isinstance(found, (list, tuple)) else [found]:
            if 'gt_sem_seg' not in (one or ()):
                continue
            labels = one.gt_sem_seg.data
            used = labels[labels != self.ignore_index]
            number = len(self.metainfo['classes'])
            if used.numel() and int(used.max()) >= number:
                raise DatasetLayoutError(
                    f'{self.name}: label {int(used.max())} in the mask '
                    f'{info["seg_map_path"]}, expected 0 to {number - 1} and '
                    f'{self.ignore_index} (no class), after '
                    f'reduce_zero_label={self.reduce_zero_label}.'
                )

    def _mask_dir(self) -> str | None:
        mask_dir = self.data_prefix.get('seg_map_path')
        return osp.abspath(mask_dir) if mask_dir else None
