"""Folders of images, common and uncommon."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_explorer.data import find_dataset, load_split
from ldm_explorer.image_folder import DataError, read_image_folder


def half_red(size=(24, 16)) -> Image.Image:
    """Left half red, right half black."""
    array = np.zeros((size[1], size[0], 3), np.uint8)
    array[:, : size[0] // 2, 0] = 255
    return Image.fromarray(array)


def fill(folder, count: int = 40, image: Image.Image | None = None):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (image or half_red()).save(folder / f"{number:03d}.png")
    return folder


def only_image(tmp_path, image: Image.Image, name: str, **options) -> np.ndarray:
    """The one image `name` among many others, read at 8 pixels, `(8, 8, 3)`."""
    folder = fill(tmp_path / "images")
    image.save(folder / name, **options)
    read = read_image_folder(folder, 8)
    position = sorted(path.name for path in folder.iterdir()).index(name)
    return read.images[position].permute(1, 2, 0).numpy()


def test_subfolders_are_classes_and_colour_is_kept(tmp_path):
    for name in ("red", "blue"):
        fill(tmp_path / name)
    read = read_image_folder(tmp_path, 16)
    assert read.class_names == ("blue", "red")
    assert read.images.shape == (80, 3, 16, 16)
    assert read.labels.tolist() == [0] * 40 + [1] * 40


def test_a_folder_without_subfolders_has_no_classes_and_grey_stays_grey(tmp_path):
    fill(tmp_path, image=half_red().convert("L"))
    read = read_image_folder(tmp_path, 16)
    assert read.class_names == ()
    assert read.images.shape == (40, 1, 16, 16)
    assert find_dataset(f"folder:{tmp_path}", 16).spec.num_classes == 0


def test_the_three_splits_share_out_every_image_and_new_files_move_none(tmp_path):
    fill(tmp_path)
    sizes = [len(load_split(f"folder:{tmp_path}", split, image_side=8)) for split in ("train", "validation", "test")]
    assert sum(sizes) == 40
    assert sizes[0] > sizes[1] > 0
    before = dict(zip(sorted(tmp_path.iterdir()), read_image_folder(tmp_path, 8).splits, strict=True))
    half_red().save(tmp_path / "0005.png")
    read_image_folder.cache_clear()
    after = dict(zip(sorted(tmp_path.iterdir()), read_image_folder(tmp_path, 8).splits, strict=True))
    assert {path: after[path] for path in before} == before


def test_the_central_square_is_kept(tmp_path):
    image = only_image(tmp_path, half_red((64, 16)), "wide.png")
    assert image[4, 0, 0] > 250
    assert image[4, 7, 0] < 5


def deep() -> Image.Image:
    return Image.fromarray(np.full((16, 16), 257 * 100, np.uint16))


def transparent() -> Image.Image:
    image = half_red((16, 16)).convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat([[255] * 8 + [0] * 8], 16, axis=0).astype(np.uint8)))
    return image


def palette_with_transparency() -> Image.Image:
    image = half_red((16, 16)).quantize(2)
    image.info["transparency"] = image.getpixel((12, 4))
    return image


@pytest.mark.parametrize(
    ("image", "name", "left", "right"),
    [
        (half_red((16, 16)).quantize(8), "palette.png", [255, 0, 0], [0, 0, 0]),
        (palette_with_transparency(), "palette.png", [255, 0, 0], [255, 255, 255]),
        (transparent(), "alpha.png", [255, 0, 0], [255, 255, 255]),
        (deep(), "deep.png", [100, 100, 100], [100, 100, 100]),
        (half_red((16, 16)).convert("L").point(lambda grey: 255 * (grey > 50), "1"), "bits.png", [255] * 3, [0, 0, 0]),
        (Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "cmyk.tiff", [255, 0, 0], [255, 0, 0]),
        (half_red((16, 16)), "upper.PNG", [255, 0, 0], [0, 0, 0]),
    ],
    ids=["palette", "palette transparent", "alpha", "16 bit", "1 bit", "CMYK", "upper case"],
)
def test_uncommon_images_come_out_as_they_look(tmp_path, image, name, left, right):
    pixels = only_image(tmp_path, image, name)
    assert np.abs(pixels[4, 1].astype(int) - left).max() <= 1
    assert np.abs(pixels[4, 6].astype(int) - right).max() <= 1


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned right by 90 degrees
    pixels = only_image(tmp_path, half_red((16, 16)), "turned.png", exif=exif)
    assert pixels[1, 4, 0] > 250
    assert pixels[6, 4, 0] < 5


def test_a_broken_file_among_many_is_named_and_left_out(tmp_path, caplog):
    fill(tmp_path)
    whole = (tmp_path / "000.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:40])
    (tmp_path / "text.jpg").write_text("not a picture")
    with caplog.at_level(logging.WARNING):
        assert len(read_image_folder(tmp_path, 8).images) == 40
    assert "2 image file(s)" in caplog.text
    assert "cut.png" in caplog.text
    assert "text.jpg" in caplog.text


def test_folders_that_hold_no_dataset_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        read_image_folder(tmp_path / "empty", 8)
    with pytest.raises(DataError, match="is no folder"):
        read_image_folder(tmp_path / "nowhere", 8)
    with pytest.raises(DataError, match="too few"):
        read_image_folder(fill(tmp_path / "two", count=2), 8)
    half_red().save(fill(tmp_path / "mixed" / "inner").parent / "beside.png")
    with pytest.raises(DataError, match="in subfolders and beside them"):
        read_image_folder(tmp_path / "mixed", 8)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "text.jpg").write_text("not a picture")
    with pytest.raises(DataError, match="none of the 1 image files"):
        read_image_folder(tmp_path / "broken", 8)
    with pytest.raises(ValueError, match="--image-side is 20: give a multiple of 8"):
        find_dataset(f"folder:{tmp_path / 'mixed'}", 20)
    with pytest.raises(ValueError, match="--image-side is 1024: give a multiple of 8 up to 512"):
        find_dataset(f"folder:{tmp_path / 'mixed'}", 1024)


def test_images_travel_as_bytes(tmp_path):
    assert read_image_folder(fill(tmp_path), 8).images.dtype == torch.uint8
