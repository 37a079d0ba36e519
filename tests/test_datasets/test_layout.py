from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from mmscope.datasets import DatasetLayoutError, check_ade20k, check_camvid


def write_pair(root, split, stem, ids, folder=''):
    images = root / 'images' / split / folder
    masks = root / 'annotations' / split / folder
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8)).save(images / f'{stem}.jpg')
    Image.fromarray(ids).save(masks / f'{stem}.png')


@pytest.fixture
def scene_parse(tmp_path):
    """Two images in SceneParse150's layout, below the usual folders."""
    root = tmp_path / 'data' / 'ade' / 'ADEChallengeData2016'
    for index, value in enumerate((0, 150), start=1):
        ids = np.full((8, 8), value, np.uint8)
        write_pair(root, 'training', f'ADE_train_{index:08d}', ids)
    return root


def test_the_right_layout_passes_and_counts_images(scene_parse):
    assert check_ade20k(scene_parse) == 2


def test_images_alone_are_enough_where_no_masks_are_asked_for(scene_parse):
    shutil.rmtree(scene_parse / 'annotations')
    assert check_ade20k(scene_parse, mask_dir=None) == 2


def test_a_missing_folder_names_the_download_and_the_stand_in(tmp_path):
    with pytest.raises(DatasetLayoutError) as error:
        check_ade20k(tmp_path / 'nowhere' / 'ADEChallengeData2016')
    message = str(error.value)
    assert str(tmp_path / 'nowhere') in message
    assert 'does not exist' in message
    assert 'ADEChallengeData2016.zip' in message
    assert 'mmscope scenes data/ade' in message
    assert 'MMSCOPE_ADE20K' in message


def test_one_level_too_high_is_named_with_the_fix(scene_parse):
    with pytest.raises(DatasetLayoutError, match='one level further down'):
        check_ade20k(scene_parse.parent)


def test_one_level_too_low_is_named_with_the_fix(scene_parse):
    with pytest.raises(DatasetLayoutError, match='one level further up'):
        check_ade20k(scene_parse / 'ADEChallengeData2016')


@pytest.mark.parametrize(
    ('year', 'name', 'index'),
    [
        ('2016', 'ADE20K_2016_07_26', 'index_ade20k.mat'),
        ('2021', 'ADE20K_2021_17_01', 'index_ade20k.pkl'),
    ],
)
@pytest.mark.parametrize('given', ['itself', 'parent', 'beside'])
def test_the_full_releases_are_named_by_year(
    tmp_path, year, name, index, given
):
    full = tmp_path / 'ade' / name
    full.mkdir(parents=True)
    (full / index).touch()
    root = {
        'itself': full,
        'parent': full.parent,
        'beside': full.parent / 'ADEChallengeData2016',
    }[given]
    with pytest.raises(DatasetLayoutError, match=f'full .* of {year}'):
        check_ade20k(root)


def test_the_full_release_without_its_index_is_known_by_seg_files(tmp_path):
    scene = tmp_path / 'images' / 'training' / 'a' / 'abbey'
    scene.mkdir(parents=True)
    (scene / 'ADE_train_00000970.jpg').touch()
    (scene / 'ADE_train_00000970_seg.png').touch()
    with pytest.raises(DatasetLayoutError, match='full .* of 2016'):
        check_ade20k(tmp_path)


def test_images_without_annotations_look_like_the_test_release(scene_parse):
    shutil.rmtree(scene_parse / 'annotations')
    with pytest.raises(DatasetLayoutError, match='release_test'):
        check_ade20k(scene_parse)


def test_an_empty_folder_says_what_it_holds(scene_parse):
    for mask in (scene_parse / 'annotations' / 'training').glob('*.png'):
        mask.rename(mask.with_suffix('.txt'))
    with pytest.raises(DatasetLayoutError, match=r'no \.png file.*\.txt'):
        check_ade20k(scene_parse)


def test_unequal_stems_are_counted_on_both_sides(scene_parse):
    images = scene_parse / 'images' / 'training'
    (images / 'ADE_train_00000001.jpg').rename(images / 'stray.jpg')
    with pytest.raises(
        DatasetLayoutError,
        match='1 images have no annotation, 1 annotations have no image '
        "[(]such as 'stray'",
    ):
        check_ade20k(scene_parse)


@pytest.mark.parametrize(
    ('ids', 'message'),
    [
        (np.full((8, 8), 151, np.uint8), 'holds the value 151'),
        (np.full((8, 8), 255, np.uint8), 'already shifted'),
        (np.zeros((8, 8, 3), np.uint8), "mode 'RGB'"),
        (np.full((8, 8), 1000, np.uint16), 'single-channel'),
    ],
)
def test_masks_of_another_kind_are_refused(scene_parse, ids, message):
    write_pair(scene_parse, 'training', 'ADE_train_00000001', ids)
    with pytest.raises(DatasetLayoutError, match=message):
        check_ade20k(scene_parse)


def test_a_damaged_mask_is_named(scene_parse):
    mask = scene_parse / 'annotations/training/ADE_train_00000001.png'
    mask.write_bytes(b'not a png')
    with pytest.raises(DatasetLayoutError, match='cannot read the mask'):
        check_ade20k(scene_parse)


def write_ids(root, *masks, exif=None, size=(8, 8)):
    for index, ids in enumerate(masks):
        write_pair(root, 'training', f'{index}', np.array(ids, np.uint8))
        if exif is not None:
            turned = Image.Exif()
            turned[0x0112] = exif
            path = root / 'images' / 'training' / f'{index}.jpg'
            Image.new('RGB', size).save(path, exif=turned)
    return root


def test_an_image_of_another_size_than_its_mask_is_refused(tmp_path):
    write_ids(tmp_path, np.ones((8, 12)))
    with pytest.raises(DatasetLayoutError, match='is 8 x 8 .* mask 12 x 8'):
        check_camvid(tmp_path)


@pytest.mark.parametrize('orientation', [5, 6, 7, 8])
def test_an_image_that_loading_turns_does_not_fit_a_mask_that_it_does_not(
    tmp_path, orientation
):
    write_ids(tmp_path, np.ones((8, 12)), exif=orientation, size=(12, 8))
    with pytest.raises(DatasetLayoutError, match='turned by its EXIF'):
        check_camvid(tmp_path)
    # Here the mask was drawn on the image as everybody sees it.
    write_ids(tmp_path, np.ones((12, 8)), exif=orientation, size=(12, 8))
    assert check_camvid(tmp_path, strict=True) == 1


@pytest.mark.parametrize('orientation', [2, 3, 6])
def test_where_nobody_can_tell_it_is_counted_or_refused(
    tmp_path, orientation, said
):
    write_ids(tmp_path, *[np.ones((8, 8))] * 4, exif=orientation)
    assert check_camvid(tmp_path) == 4
    assert '4 of 4 images have an EXIF orientation' in said.text
    assert '0.jpg' in said.text
    assert said.text.count(".jpg'") == 3
    with pytest.raises(DatasetLayoutError, match='4 of 4 images have an'):
        check_camvid(tmp_path, strict=True)


def test_ids_that_look_shifted_are_said(tmp_path, said):
    low = np.arange(64).reshape(8, 8) % 4 * (np.arange(8) > 3)
    write_ids(tmp_path, low, low)
    check_camvid(tmp_path)
    assert '62% of all pixels have id 0' in said.text
    assert 'one too low' in said.text
    said.clear()
    write_ids(tmp_path, low + 2, low + 2)
    with pytest.raises(DatasetLayoutError, match='one too high'):
        check_camvid(tmp_path, strict=True)
    write_ids(tmp_path, low + 1, low + 1)
    assert check_camvid(tmp_path, strict=True) == 2
    assert not said.text


def test_ids_that_count_from_zero_end_one_below(tmp_path):
    write_ids(tmp_path, np.full((8, 8), 10), np.full((8, 8), 255))
    assert check_camvid(tmp_path, reduce_zero_label=False) == 2
    write_ids(tmp_path, np.full((8, 8), 11))
    with pytest.raises(DatasetLayoutError, match='value 11, expected 0..10'):
        check_camvid(tmp_path, reduce_zero_label=False)


@pytest.mark.parametrize('mode', ['RGBA', 'I;16', '1', 'LA'])
def test_masks_that_are_no_eight_bit_ids_are_refused(tmp_path, mode):
    write_ids(tmp_path, np.ones((8, 8)))
    mask = tmp_path / 'annotations' / 'training' / '0.png'
    Image.new(mode, (8, 8), 1 if mode in ('1', 'I;16') else None).save(mask)
    with pytest.raises(DatasetLayoutError, match=f"PIL mode '{mode}'"):
        check_camvid(tmp_path)


def test_a_mask_of_a_format_that_blurs_is_refused(tmp_path):
    write_ids(tmp_path, np.ones((8, 8)))
    mask = tmp_path / 'annotations' / 'training' / '0.png'
    Image.new('L', (8, 8), 1).save(mask, 'JPEG')
    with pytest.raises(DatasetLayoutError, match="JPEG file of PIL mode 'L'"):
        check_camvid(tmp_path)


def test_a_palette_mask_holds_ids(tmp_path):
    write_ids(tmp_path, np.full((8, 8), 1))
    mask = tmp_path / 'annotations' / 'training' / '0.png'
    palette = Image.open(mask)
    palette.putpalette([9, 9, 9] * 256)
    palette.save(mask)
    assert Image.open(mask).mode == 'P'
    assert check_camvid(tmp_path, strict=True) == 1


@pytest.mark.parametrize('places', [['images'], ['images', 'annotations']])
def test_a_file_that_the_listing_passes_over_is_named(scene_parse, places):
    ids = np.zeros((8, 8), np.uint8)
    write_pair(scene_parse, 'training', 'extra', ids)
    (scene_parse / 'annotations/training/extra.png').rename(
        scene_parse / 'annotations/training/extra.PNG'
    )
    path = scene_parse / 'images/training/extra.jpg'
    path.rename(path.with_suffix('.JPG'))
    if 'annotations' not in places:
        (scene_parse / 'annotations/training/extra.PNG').unlink()
    with pytest.raises(DatasetLayoutError) as error:
        check_ade20k(scene_parse)
    assert f'1 of 3 files in {path.parent} do not end in .jpg' in str(
        error.value
    )
    assert 'extra.JPG' in str(error.value)
    assert 'Rename them' in str(error.value)


def test_pipes_and_broken_links_are_named(tmp_path):
    write_ids(tmp_path, np.ones((8, 8)))
    os.mkfifo(tmp_path / 'images' / 'training' / 'a.jpg')
    (tmp_path / 'images/training/b.jpg').symlink_to('nowhere')
    with pytest.raises(DatasetLayoutError, match='2 entries .* is a ') as e:
        check_camvid(tmp_path)
    assert 'is a pipe' in str(e.value)
    assert 'is a broken link' in str(e.value)


def test_missing_camvid_names_the_environment_variable(tmp_path):
    with pytest.raises(DatasetLayoutError, match='MMSCOPE_CAMVID'):
        check_camvid(tmp_path / 'camvid')


def test_segnet_layout_of_camvid_is_named(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'trainannot').mkdir()
    with pytest.raises(DatasetLayoutError, match='SegNet layout'):
        check_camvid(tmp_path)


def test_camvid_ids_end_at_eleven(tmp_path):
    write_pair(tmp_path, 'training', 'a', np.full((8, 8), 11, np.uint8))
    assert check_camvid(tmp_path) == 1
    write_pair(tmp_path, 'training', 'b', np.full((8, 8), 12, np.uint8))
    with pytest.raises(DatasetLayoutError, match='the value 12'):
        check_camvid(tmp_path)


@pytest.mark.parametrize(
    ('check', 'folder', 'split', 'count'),
    [
        (check_ade20k, 'ade20k_sample', 'validation', 3),
        (check_camvid, 'camvid', 'training', 367),
        (check_camvid, 'camvid', 'test', 233),
    ],
)
def test_real_data_passes_where_it_is(check, folder, split, count):
    shared = os.environ.get('MMSCOPE_SHARED')
    if not shared or not os.path.isdir(f'{shared}/data/{folder}'):
        pytest.skip('MMSCOPE_SHARED names no folder with data/' + folder)
    root = f'{shared}/data/{folder}'
    assert check(root, f'images/{split}', f'annotations/{split}') == count
