from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmcv', reason='needs mmcv')

from mmscope.datasets import BrokenImageError, LoadImage
from mmscope.datasets.decoding import decode_bgr


@pytest.fixture
def rgb():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)


def encoded(image, kind='PNG', **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_colour_is_bgr_as_the_host_expects(rgb, tmp_path):
    import mmcv

    path = tmp_path / 'a.png'
    path.write_bytes(encoded(Image.fromarray(rgb)))
    results = LoadImage()({'img_path': str(path)})
    np.testing.assert_array_equal(results['img'], mmcv.imread(str(path)))
    assert results['img_shape'] == results['ori_shape'] == (24, 32)
    assert results['img'].flags['C_CONTIGUOUS']


def test_grey_is_repeated(rgb):
    grey = rgb[..., 0]
    loaded = decode_bgr(encoded(Image.fromarray(grey)), 'a')
    for channel in range(3):
        np.testing.assert_array_equal(loaded[..., channel], grey)


def test_transparency_is_dropped(rgb):
    alpha = np.zeros((24, 32, 1), np.uint8)
    image = Image.fromarray(np.concatenate([rgb, alpha], -1))
    loaded = decode_bgr(encoded(image), 'a')
    np.testing.assert_array_equal(loaded, rgb[..., ::-1])


def test_sixteen_bit_grey_keeps_its_upper_bits():
    grey = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    loaded = decode_bgr(encoded(Image.fromarray(grey)), 'a')
    np.testing.assert_array_equal(loaded[..., 1], grey >> 8)


@pytest.mark.parametrize('mode', ['1', 'P', 'LA', 'CMYK'])
def test_other_modes_become_what_pillow_makes_of_them(rgb, mode):
    image = Image.fromarray(rgb).convert(mode)
    kind = 'TIFF' if mode == 'CMYK' else 'PNG'
    loaded = decode_bgr(encoded(image, kind), 'a')
    expected = np.asarray(image.convert('RGB'))[..., ::-1]
    np.testing.assert_array_equal(loaded, expected)


def test_a_palette_with_transparency_is_read_without_warning(rgb):
    image = Image.fromarray(rgb).convert('P')
    data = encoded(image, transparency=bytes(range(256)))
    loaded = decode_bgr(data, 'a')
    expected = np.asarray(image.convert('RGB'))[..., ::-1]
    np.testing.assert_array_equal(loaded, expected)


def test_exif_rotation_is_applied(rgb):
    exif = Image.Exif()
    exif[0x0112] = 6
    loaded = decode_bgr(encoded(Image.fromarray(rgb), exif=exif), 'a')
    np.testing.assert_array_equal(loaded, np.rot90(rgb, -1)[..., ::-1])


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
@pytest.mark.parametrize('kept', [0.2, 0.5, 0.9])
def test_a_truncated_file_is_an_error_with_its_path(rgb, tmp_path, kind, kept):
    data = encoded(Image.fromarray(rgb), kind)
    path = tmp_path / 'n01' / 'cut.jpg'
    path.parent.mkdir()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(BrokenImageError) as error:
        LoadImage()({'img_path': str(path)})
    assert str(path) in str(error.value)


@pytest.mark.parametrize('data', [b'', b'<html>not found</html>'])
def test_what_is_no_image_is_an_error_with_its_path(tmp_path, data):
    path = tmp_path / 'empty.jpg'
    path.write_bytes(data)
    with pytest.raises(BrokenImageError, match='empty.jpg'):
        LoadImage()({'img_path': str(path)})


def test_floating_point_images_are_refused_by_name():
    image = Image.fromarray(np.zeros((4, 4), np.float32))
    with pytest.raises(BrokenImageError, match="x.tif.*mode 'F'"):
        decode_bgr(encoded(image, 'TIFF'), 'x.tif')


def test_an_image_that_is_there_already_passes():
    loaded = {'img': np.zeros((2, 2, 3), np.uint8), 'img_shape': (2, 2)}
    assert LoadImage()(dict(loaded)) == loaded
