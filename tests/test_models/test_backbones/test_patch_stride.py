"""Patches that overlap: ViM's released models of stride 8."""

import pytest
import torch

from mmscope.models import MambaScope, VisionMamba
from mmscope.models.layers import pad_to_size

ARCH = {'embed_dims': 16, 'num_layers': 2}


def make(**options):
    torch.manual_seed(0)
    options = {'arch': ARCH, 'img_size': 64, 'patch_stride': 8, **options}
    return VisionMamba(**options).eval()


def test_224_pixels_have_27_x_27_cells():
    with torch.device('meta'):
        model = VisionMamba(patch_stride=8)
    assert model.grid == (27, 27)
    assert model.pos_embed.shape == (1, 27 * 27 + 1, 192)
    assert sum(p.numel() for p in model.parameters()) == (
        7_148_008 - 193_000 + (27 * 27 - 14 * 14) * 192
    )


# Side in pixels and cells of stride 8: whole ones, some to fill up, one.
SIDES = {64: 7, 65: 8, 71: 8, 72: 8, 40: 4, 16: 1, 17: 2}


@torch.no_grad()
@pytest.mark.parametrize('height', SIDES)
@pytest.mark.parametrize('width', [64, 50])
def test_images_of_any_size_give_vectors_and_maps(height, width):
    image = torch.randn(2, 3, height, width)
    (vector,) = make()(image)
    assert vector.shape == (2, 16)
    maps = make(out_type='featmap', out_indices=(0, 1))(image)
    cells = SIDES[height], {64: 7, 50: 6}[width]
    assert [m.shape for m in maps] == [(2, 16, *cells)] * 2


@torch.no_grad()
def test_what_is_missing_of_a_cell_is_black():
    model, image = make(), torch.randn(1, 3, 50, 64)
    padded = pad_to_size(image, (56, 64))
    assert torch.equal(model(image)[0], model(padded)[0])


@torch.no_grad()
def test_every_patch_sees_its_own_pixels():
    model = make(img_size=(32, 40))
    image = torch.randn(1, 3, 32, 40)
    patches, _ = model.embed(image)
    positions, _ = model.position((3, 4))
    for row, column in ((0, 0), (1, 2), (2, 3)):
        y, x = 8 * row, 8 * column
        crop = image[..., y : y + 16, x : x + 16]
        index = 4 * row + column
        wanted = model.patch_embed(crop)[:, 0] + positions[:, index]
        torch.testing.assert_close(patches[:, index], wanted)


@pytest.mark.parametrize('stride', [0, 17, -8])
def test_a_stride_that_leaves_pixels_out_is_refused(stride):
    with pytest.raises(ValueError, match='patch_stride must'):
        make(patch_stride=stride)


def test_the_patch_size_is_the_stride_that_scoping_takes():
    MambaScope(arch=ARCH, img_size=64, patch_stride=16)
    with pytest.raises(ValueError, match='must not overlap.*patch_stride=8'):
        MambaScope(arch=ARCH, img_size=64, patch_stride=8)
