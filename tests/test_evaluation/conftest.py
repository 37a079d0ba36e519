"""A tiny segmentor and data set for sweeps."""

from types import SimpleNamespace

import pytest
import torch
from builders import tools

NUM_CLASSES = 4
CLASSES = ('sky', 'road', 'tree', 'car')


def segmentor_config(backbone_type, **backbone):
    two_stage = {
        'exit_head': {
            'type': 'mmscope.MultiLabelExitHead',
            'num_classes': NUM_CLASSES,
        }
    }
    return {
        'type': 'EncoderDecoder',
        'data_preprocessor': {
            'type': 'SegDataPreProcessor',
            'mean': [120.0] * 3,
            'std': [60.0] * 3,
        },
        'backbone': {
            'type': backbone_type,
            'arch': {'embed_dims': 16, 'num_layers': 2},
            'img_size': 64,
            'out_type': 'featmap',
            'out_indices': (0, 1),
            **(two_stage if backbone_type.endswith('MambaScope') else {}),
            **backbone,
        },
        'decode_head': {
            'type': 'FCNHead',
            'in_channels': 16,
            'in_index': -1,
            'channels': 16,
            'num_convs': 1,
            'concat_input': False,
            'num_classes': NUM_CLASSES,
            'norm_cfg': {'type': 'BN'},
        },
        'test_cfg': {'mode': 'whole'},
    }


@pytest.fixture
def build_segmentor():
    """Build ``EncoderDecoder`` on a tiny backbone, the exit head 'trained'."""
    pytest.importorskip('mmcv', reason='needs the mmseg host')
    pytest.importorskip('mmseg.models')
    from mmengine.config import ConfigDict
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')

    def build(backbone_type='mmscope.MambaScope', seed=0, **backbone):
        torch.manual_seed(seed)
        config = ConfigDict(segmentor_config(backbone_type, **backbone))
        model = MODELS.build(config)
        head = getattr(model.backbone, 'exit_head', None)
        if head is not None:
            # Fresh weights give every image the same confidence.
            torch.nn.init.normal_(head.fc.weight, std=0.5)
            head.num_updates.fill_(1)
        return model.eval()

    return build


@pytest.fixture
def write_run(tmp_path, build_segmentor):
    """Write a config, its data and a checkpoint; give the two paths."""
    import numpy as np
    from mmengine.config import Config
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(5):
        for folder, shape in (('img', (64, 96, 3)), ('ann', (64, 96))):
            top = 256 if folder == 'img' else NUM_CLASSES
            pixels = rng.integers(0, top, shape, dtype=np.uint8)
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f'{index}.png')
    loader = {
        'batch_size': 2,
        'num_workers': 0,
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'dataset': {
            'type': 'BaseSegDataset',
            'data_root': str(tmp_path),
            'data_prefix': {'img_path': 'img', 'seg_map_path': 'ann'},
            'img_suffix': '.png',
            'seg_map_suffix': '.png',
            'reduce_zero_label': False,
            'metainfo': {
                'classes': CLASSES,
                'palette': [[90, 160, 230], [80, 80, 80], [0, 99, 0], [9] * 3],
            },
            'pipeline': [
                {'type': 'LoadImageFromFile'},
                {'type': 'LoadAnnotations'},
                {'type': 'PackSegInputs'},
            ],
        },
    }

    def write(backbone_type='mmscope.MambaScope'):
        config = Config(
            {
                'default_scope': 'mmseg',
                'model': segmentor_config(backbone_type),
                'test_dataloader': loader,
                'val_dataloader': None,
            }
        )
        name = backbone_type.rpartition('.')[2]
        config.dump(tmp_path / f'{name}.py')
        state = build_segmentor(backbone_type).state_dict()
        torch.save({'state_dict': state}, tmp_path / f'{name}.pth')
        return str(tmp_path / f'{name}.py'), str(tmp_path / f'{name}.pth')

    return write


@pytest.fixture
def make_loader():
    """Make batches of random images with random labels, 255 = ignored."""
    pytest.importorskip('mmseg.models')
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    def sample(index, generator, size):
        height, width = size
        coarse = torch.rand(3, 4, 4, generator=generator)
        image = torch.nn.functional.interpolate(coarse[None], size)[0]
        noise = torch.rand(3, height, width, generator=generator)
        image = 255 * (0.6 * image + 0.4 * noise)
        label = torch.randint(
            0, NUM_CLASSES, (1, 8, 8), generator=generator
        ).float()
        label = torch.nn.functional.interpolate(label[None], size)[0].long()
        label[:, : height // 8] = 255
        data_sample = SegDataSample(gt_sem_seg=PixelData(data=label))
        data_sample.set_metainfo(
            {
                'img_path': f'images/{index:03d}.jpg',
                'ori_shape': size,
                'img_shape': size,
                'pad_shape': size,
            }
        )
        return image.byte(), data_sample

    def make(num_images=12, batch_size=3, size=(64, 96), seed=0):
        generator = torch.Generator().manual_seed(seed)
        pairs = [sample(i, generator, size) for i in range(num_images)]
        batches = [
            {
                'inputs': [image for image, _ in pairs[i : i + batch_size]],
                'data_samples': [d for _, d in pairs[i : i + batch_size]],
            }
            for i in range(0, num_images, batch_size)
        ]
        return Loader(batches)

    return make


class Loader(list):
    """Batches with the one attribute of a DataLoader that a sweep reads."""

    dataset = SimpleNamespace(metainfo={'classes': CLASSES}, ignore_index=255)


@pytest.fixture
def photo_run(tmp_path):
    """Make a tiny classifier's config, data and checkpoint."""
    pytest.importorskip('mmpretrain', reason='needs the mmpretrain host')
    from builders import classification
    from mmengine.registry import init_default_scope
    from mmpretrain.registry import MODELS
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    init_default_scope('mmpretrain')
    root = classification.write_photos(tmp_path / 'photos')

    def make(confidence='max_prob', seed=1, **options):
        torch.manual_seed(seed)
        cfg = classification.config(
            root, tmp_path / 'work', classification.classifier(**options)
        )
        (gate,) = cfg.custom_hooks
        gate.confidence = confidence
        if options.get('type') == 'mmscope.VisionMamba':
            cfg.custom_hooks = []
        model = MODELS.build(cfg.model)
        # Fresh weights predict one class for every image in both stages.
        torch.nn.init.normal_(model.head.fc.weight, std=1.0)
        torch.nn.init.normal_(model.backbone.patch_embed.proj.weight, std=0.1)
        path = tmp_path / 'model.pth'
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
        return cfg, str(path)

    return make


@pytest.fixture(name='load_tool')
def tool_loader():
    return tools.load_tool


@pytest.fixture
def sweep_tool(build_segmentor, load_tool):
    pytest.importorskip('matplotlib', reason='the tool draws a picture')
    return load_tool('sweep_threshold')
