"""Image files, to be looked at like the images of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS

from mmscope.errors import UserError
from mmscope.runtime import read_checkpoint, type_name, walk


class ImageFiles:
    """Image files behind a config's test pipeline; nothing true is known.

    Args:
        paths (Sequence[str]): Image files.
        cfg (Config): Of ``open_config``; its test data's pipeline is used
            without what loads annotations.
        metainfo (dict): With ``classes``, maybe ``palette``.

    Raises:
        UserError: If the config has no test pipeline.
    """

    def __init__(
        self, paths: Sequence[str], cfg: Config, metainfo: dict
    ) -> None:
        self.paths = [str(path) for path in paths]
        self.metainfo = metainfo
        self._pipeline = Compose(loading_pipeline(cfg))

    def __len__(self) -> int:
        return len(self.paths)

    def get_data_info(self, index: int) -> dict:
        """Tell ``img_path`` and ``img_id`` of an image."""
        return {'img_path': self.paths[index], 'img_id': index}

    def __getitem__(self, index: int) -> dict:
        return self._pipeline(self.get_data_info(index))


def loading_pipeline(cfg: Config) -> list[dict]:
    """Find how a config makes an input of an image file.

    Raises:
        UserError: If the config has no test pipeline.
    """
    data = cfg.get('test_dataloader') or {}
    for _, node in walk(data.get('dataset'), 'dataset'):
        if 'pipeline' in node:
            return [
                step
                for step in node['pipeline']
                if not type_name(step).endswith('Annotations')
            ]
    raise UserError(
        'the config has no test_dataloader with a pipeline: it says how an '
        'image file becomes an input of the model'
    )


def class_meta(cfg: Config, checkpoint: str) -> dict[str, Any]:
    """Find the names of a model's classes without its data.

    Returns:
        dict[str, Any]: ``classes`` and, where there is one, ``palette``.

    Raises:
        UserError: If neither of them names the classes.
    """
    meta = read_checkpoint(checkpoint).get('meta') or {}
    found = [meta.get('dataset_meta') or {}]
    data = cfg.get('test_dataloader') or {}
    for _, node in walk(data.get('dataset'), 'dataset'):
        found.append(node.get('metainfo') or {})
        kind = node.get('type')
        if isinstance(kind, str):
            kind = DATASETS.get(kind)
        found.append(getattr(kind, 'METAINFO', {}))
    for entry in found:
        if entry.get('classes') is not None:
            return dict(entry)
    raise UserError(
        f'neither {Path(checkpoint).name} nor the config names the classes: '
        'add test_dataloader.dataset.metainfo=dict(classes=(...))'
    )
