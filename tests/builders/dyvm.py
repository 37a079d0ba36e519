"""DyVM models for the tests: small ones, and the released fixtures."""

from __future__ import annotations

import torch

from builders.released import build, read
from mmscope.models import MambaReg, VideoMamba, VisionMamba

ARCH = {'embed_dims': 16, 'num_layers': 4}
REDUCTION = {'type': 'mmscope.DyVM', 'prune_layers': (1, 3)}
MAPS = {'out_type': 'featmap', 'out_indices': (0, 1, 2, 3)}
RELEASED = {'videomamba': VideoMamba, 'mambareg': MambaReg}
NO_CLS = {**MAPS, 'summary_position': 'none'}


def make(family=VisionMamba, reduction=None, **options):
    """A small backbone of 4 blocks and 16 patches, in evaluation."""
    torch.manual_seed(0)
    options = {'arch': ARCH, 'img_size': 64, **options}
    reduction = {**REDUCTION, **(reduction or {})}
    return family(reduction=reduction, **options).eval()


@torch.no_grad()
def trained(model, seed=3):
    """Give predictors and heads weights that tell four images apart."""
    torch.manual_seed(seed)
    for predictor in model.score_predictors:
        for param in predictor.parameters():
            param.normal_(std=0.5)
    # A cls token knows nothing of its image before the second block.
    for block in model.layers[1:]:
        head, logits = block.mixer.block_head, []
        head.weight.normal_()
        handle = head.register_forward_hook(
            lambda *call, logits=logits: logits.append(call[-1])
        )
        model(images())
        handle.remove()
        # Between the second and the third of four, far from both.
        head.bias -= logits[0].sort(0).values[1:3].mean(0)
    return model


def images(count=4, seed=2, size=64):
    """Random images (count, 3, size, size)."""
    generator = torch.manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator)


def released(name, **options):
    """A released model with weights of its own, and what it computes."""
    config, found = read(f'dyvm_{name}_dev.npz')
    for key, value in found.items():
        if not value.is_floating_point() and key != 'block_policy':
            found[key] = value.long()
    reduction = {
        'type': 'mmscope.DyVM',
        'prune_layers': config['prune_layers'],
        'token_keep_ratio': config['token_ratios'][0],
        'block_keep_ratio': config.get('block_keep_ratio', 0.8),
    }
    family = RELEASED.get(name, VisionMamba)
    registers = ('num_registers', 'cls_reduce')
    options.update({key: config[key] for key in registers if key in config})
    return build(family, config, found, reduction=reduction, **options), found
