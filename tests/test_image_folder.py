"""Folders of images, common and uncommon."""

import logging
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_explorer.data import find_dataset, load_split
from ldm_explorer.image_folder import DataError, read_image_folder, read_some_images
from ldm_explorer.pictures import picture
from ldm_explorer.pictures.layout import SPLIT_NAMES


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
    return read.images[read.names.index(name)].permute(1, 2, 0).numpy()


def test_subfolders_are_classes_and_colour_is_kept(tmp_path):
    for name in ("red", "blue"):
        fill(tmp_path / name)
    read = read_image_folder(tmp_path, 16)
    assert read.class_names == ("blue", "red")
    assert read.images.shape == (80, 3, 16, 16)
    assert sorted(zip(read.names, read.labels.tolist(), strict=True)) == [
        (f"{name}/{number:03d}.png", label) for label, name in enumerate(("blue", "red")) for number in range(40)
    ]


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
    before = read_image_folder(tmp_path, 8)
    half_red().save(tmp_path / "0005.png")
    read_image_folder.cache_clear()
    after = read_image_folder(tmp_path, 8)
    assert dict(zip(after.names, after.splits, strict=True)) == dict(zip(before.names, before.splits, strict=True)) | {
        "0005.png": "train"
    }


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


def read(folder, side: int = 8):
    return read_some_images(folder, side)


def test_links_are_followed_once_and_cycles_end(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / "store" / name, 10)
    folder = tmp_path / "images"
    fill(folder / "bird", 10)
    (folder / "cat").symlink_to(tmp_path / "store" / "cat")
    (folder / "dog").mkdir()
    for path in (tmp_path / "store" / "dog").iterdir():
        (folder / "dog" / path.name).symlink_to(path)
    (folder / "a bird").symlink_to(folder / "bird")
    (folder / "bird" / "all").symlink_to(folder)
    (folder / "bird" / "again.png").symlink_to(folder / "bird" / "000.png")
    (folder / "dog" / "gone.png").symlink_to(tmp_path / "nothing")
    pictures = read(folder)
    assert pictures.class_names == ("bird", "cat", "dog")
    assert pictures.labels.bincount().tolist() == [10, 10, 10]
    assert pictures.left_out == {"links to what is there already": 3, "broken links": 1}


def test_what_cannot_be_read_and_links_that_lead_nowhere_are_named_before_what_nobody_takes_for_pictures(tmp_path):
    fill(tmp_path, 10)
    for name in ("a.csv", "b.svg", "c.db", "d.heic", "e.txt", ".hidden", ".more"):
        (tmp_path / name).write_text("")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "000.png").read_bytes()[:40])
    for number in range(5):
        (tmp_path / f"gone-{number}.png").symlink_to(tmp_path / "nothing")
    said = read(tmp_path).summary
    assert "13 left out (5 broken links: gone-0.png and gone-1.png and gone-2.png and 2 more, " in said
    assert "more, 1 that cannot be read: cut.jpg, 2 hidden, 1 ." in said


@pytest.mark.parametrize("suffix", [".avif", ".jfif", ".jpe", ".JPG", ".jp2", ".pbm", ".apng", ".dib"])
def test_a_suffix_of_a_format_that_is_read_is_read_and_any_other_counted(tmp_path, suffix):
    fill(tmp_path, 10)
    image = half_red((8, 8))
    is_read = suffix != ".dib"
    kinds = {".jfif": "JPEG", ".apng": "PNG"}
    (image.convert("1") if suffix == ".pbm" else image).save(tmp_path / f"one{suffix}", kinds.get(suffix))
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".hidden.png").write_bytes((tmp_path / "000.png").read_bytes())
    pictures = read(tmp_path)
    assert (f"one{suffix}" in pictures.names) == is_read
    assert pictures.left_out == {".txt": 1, "hidden": 1} | ({} if is_read else {suffix: 1})
    assert f"{10 + is_read} images" in pictures.summary
    assert "1 .txt" in pictures.summary


LAYOUTS = {
    "splits above classes": (
        ["train/cat", "train/dog", "val/cat", "val/dog", "test/cat", "test/dog"],
        "cat dog",
        "train val test",
    ),
    "splits in other words": (["Training/a", "Validation/a", "Testing/a"], "a", "Training Validation Testing"),
    "splits below classes": (["cat/train", "cat/valid", "dog/train", "dog/valid"], "cat dog", "train valid"),
    "splits without classes": (["train", "dev", "test"], "", "train dev test"),
    "no validation": (["train/cat", "train/dog", "test/cat", "test/dog"], "cat dog", "train test"),
    "a wrapper": (["images/cat", "images/dog"], "cat dog", ""),
    "two wrappers": (["pets/images/cat", "pets/images/dog"], "cat dog", ""),
    "a wrapper around splits": (["pets/train/cat", "pets/train/dog", "pets/test/cat"], "cat dog", "train test"),
    "a wrapper in splits": (["train/images/cat", "train/images/dog", "val/images/dog"], "cat dog", "train val"),
    "a wrapper without classes": (["images"], "", ""),
    "one split": (["train/cat", "train/dog"], "cat dog", ""),
    "one class": (["cat"], "cat", ""),
    "classes of classes": (["cat/old", "cat/young", "dog"], "cat dog", ""),
    "a class that is named as a split": (["bus", "train"], "bus train", ""),
    "splits beside another folder": (["train/cat", "test/cat", "more/cat"], "more test train", ""),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_subfolders_are_recognised_as_what_they_are(tmp_path, layout):
    folders, classes, splits = LAYOUTS[layout]
    for name in folders:
        fill(tmp_path / name, 12)
    pictures = read(tmp_path)
    assert pictures.class_names == tuple(classes.split())
    assert len(pictures.images) == 12 * len(folders)
    for name in splits.split():
        assert name in pictures.summary
        of_split = {split for path, split in zip(pictures.names, pictures.splits, strict=True) if name in path}
        allowed = {"train", "validation", "test"} if name.lower().startswith("train") else {SPLIT_NAMES[name.lower()]}
        assert of_split <= allowed
    assert ("splits" in pictures.summary) == bool(splits or "beside" in layout)
    assert ("no class" in pictures.summary) == ("wrapper" in layout or layout == "one split" or not classes)


def test_a_split_without_a_folder_is_a_tenth_of_those_to_train_on(tmp_path):
    for name in ("train", "test"):
        fill(tmp_path / name, 60)
    pictures = read(tmp_path)
    assert pictures.splits.count("test") == 60
    assert 0 < pictures.splits.count("validation") < 15
    names = [name for name, split in zip(pictures.names, pictures.splits, strict=True) if split == "validation"]
    assert all(name.startswith("train/") for name in names)


def test_test_images_in_no_folder_of_a_class_are_left_out_where_the_others_are_in_one(tmp_path):
    for name in ("train/cat", "train/dog", "test"):
        fill(tmp_path / name, 20)
    pictures = read(tmp_path)
    assert pictures.class_names == ("cat", "dog")
    assert pictures.left_out == {"in no folder of a class": 20}


def test_names_that_are_no_text_are_read_and_shown_escaped(tmp_path, caplog):
    fill(tmp_path / "caf\udce9", 39)
    (tmp_path / "caf\udce9" / "\udcff.png").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        pictures = read(tmp_path)
    assert len(pictures.images) == 39
    shown = [pictures.summary, *pictures.class_names, caplog.text]
    assert all(text.isascii() and text.encode() for text in shown)
    assert pictures.class_names == (r"caf\udce9",)


def waves(k: int) -> np.ndarray:
    """`(16, 16)` from 0 to 255."""
    y, x = np.mgrid[:16, :16] / 15
    return np.abs(255 * np.sin(3 * x * (1 + k % 3)) * np.cos(2 * y)).clip(0, 255).astype(np.uint8)


def save_deep_colour(path, values: np.ndarray) -> None:
    """A PNG of 16 bits per channel, which Pillow does not write."""
    height, width, _ = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))


@pytest.mark.parametrize("kind", ["png", "tiff", "colour png"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_bits_of_deep_pictures_are_measured_over_all_of_them_and_said(tmp_path, kind, bits):
    for k in range(12):
        deep = (waves(k) // (1 + k % 2)).astype(np.uint32) * (2**bits - 1) // 255  # every other one is darker
        if kind == "colour png":
            save_deep_colour(tmp_path / f"{k:02d}.png", np.stack([deep, deep // 2, deep // 4], -1))
        else:
            Image.fromarray(deep.astype(np.uint16)).save(tmp_path / f"{k:02d}.{kind}")
    pictures = read_some_images(tmp_path, 16)
    by_name = dict(zip(pictures.names, pictures.images, strict=True))
    for k in range(12):
        found = by_name[f"{k:02d}.{kind.removeprefix('colour ')}"][0].numpy().astype(int)
        assert np.abs(found - waves(k) // (1 + k % 2)).max() <= 1
    assert f"read as {bits} bits" in pictures.summary


def test_pictures_that_are_all_but_black_are_counted(tmp_path):
    fill(tmp_path, 10)
    Image.new("L", (8, 8), 15).save(tmp_path / "dark.png")
    assert "1 are all but black" in read(tmp_path).summary


@pytest.mark.parametrize("values", [np.full((8, 8), 0.5, np.float32), np.full((8, 8), 70_000, np.int32)])
def test_values_without_an_agreed_range_are_refused_in_words(tmp_path, values, caplog):
    fill(tmp_path, 10)
    Image.fromarray(values).save(tmp_path / "one.tiff")
    with caplog.at_level(logging.WARNING):
        pictures = read(tmp_path)
    assert "have no agreed range: save them with 8 or 16 bits" in caplog.text
    assert pictures.left_out == {"that cannot be read": 1}
    (tmp_path / "alone").mkdir()
    Image.fromarray(values).save(tmp_path / "alone" / "one.tiff")
    with pytest.raises(DataError, match=r"none of the 1 image files in .*: one\.tiff .*have no agreed range"):
        read(tmp_path / "alone")


def test_deep_pictures_take_no_more_memory_than_their_values(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "MAX_DEEP_PIXELS", 100)
    fill(tmp_path, 10)
    save_deep_colour(tmp_path / "large.png", np.zeros((10, 11, 3)))
    save_deep_colour(tmp_path / "small.png", np.full((10, 10, 3), 40_000))
    assert read(tmp_path).left_out == {"that cannot be read": 1}
    with pytest.raises(ValueError, match="11 x 10 pixels of 16 bits"):
        picture.square_pixels((tmp_path / "large.png").read_bytes(), 8, 16)
    values = np.random.default_rng(0).integers(0, 2**16, (500, 500, 3)).astype(np.uint16)
    tracemalloc.start()
    picture._to_8_bits(values, 16, Image.new("L", (1, 1)))
    assert tracemalloc.get_traced_memory()[1] < 3 * values.nbytes
    tracemalloc.stop()


def test_few_images_are_looked_at_without_splits_and_many_only_in_part(tmp_path):
    assert len(read(fill(tmp_path, 7)).images) == 7
    some = read_some_images(tmp_path, 8, 3)
    assert len(some.images) == len(some.names) == len(some.labels) == 3
    assert "3 of 7 are looked at" in some.summary


def test_an_identity_is_of_the_names_wherever_they_lie(tmp_path):
    here, there = (read(fill(tmp_path / name)) for name in ("here", "there"))
    fewer = read(fill(tmp_path / "fewer", 39))
    assert here.identity == there.identity != fewer.identity
