"""Any folder of images as tensors: subfolders are classes, without subfolders there are none.

A file is in the test, the validation or the training split by a checksum of its name, so that files that are added
later move no other one.
"""

import logging
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from ldm_explorer.files import PICTURE_FORMATS, open_picture

Split = Literal["train", "validation", "test"]
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
SPLIT_BUCKETS = 10
MAX_NAMED_FILES = 5
_log = logging.getLogger(__name__)


class DataError(RuntimeError):
    """The dataset cannot be had; the message says what to do."""


@dataclass(frozen=True)
class ImageFolder:
    """`images (N, C, side, side) uint8` (C is 1 when every image is grey), `labels (N,) int64`, `splits` per image."""

    images: Tensor
    labels: Tensor
    splits: tuple[Split, ...]
    class_names: tuple[str, ...]  # () when there are no classes

    def split(self, split: Split) -> tuple[Tensor, Tensor]:
        chosen = torch.tensor([name == split for name in self.splits])
        return self.images[chosen], self.labels[chosen]


@cache
def read_image_folder(folder: Path, side: int) -> ImageFolder:
    """Read every image at or below `folder`, cropped to its central square and scaled to `side`.

    What cannot be read is named in a warning and left out. Raises `DataError` when the folder holds no images, or
    images both in subfolders and beside them, or too few for three splits.
    """
    paths = _image_paths(folder)
    classes = tuple(sorted({path.relative_to(folder).parts[0] for path in paths if path.parent != folder}))
    if classes and any(path.parent == folder for path in paths):
        raise DataError(f"{folder} holds images in subfolders and beside them: give every image a subfolder, or none")
    with ThreadPoolExecutor() as pool:
        read = list(tqdm(pool.map(lambda path: _read(path, side), paths), f"reading {folder}", len(paths), leave=False))
    kept = [(path, pixels) for path, pixels in zip(paths, read, strict=True) if isinstance(pixels, np.ndarray)]
    _name_broken([(path, error) for path, error in zip(paths, read, strict=True) if isinstance(error, Exception)])
    if not kept:
        raise DataError(f"none of the {len(paths)} image files in {folder} can be read")
    images = torch.from_numpy(np.stack([pixels for _, pixels in kept])).permute(0, 3, 1, 2).contiguous()
    if bool((images == images[:, :1]).all()):
        images = images[:, :1].contiguous()
    names = [path.relative_to(folder) for path, _ in kept]
    labels = torch.tensor([classes.index(name.parts[0]) if classes else 0 for name in names])
    splits = tuple(_split_of(name) for name in names)
    if set(splits) != {"train", "validation", "test"}:
        raise DataError(f"{folder} holds {len(kept)} images: too few to set some apart for validation and test")
    return ImageFolder(images, labels, splits, classes)


def _image_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: give one that holds images")
    inside = (path for path in folder.rglob("*") if not any(part[0] == "." for part in path.relative_to(folder).parts))
    paths = sorted(path for path in inside if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return paths


def holds_pictures(folder: Path) -> bool:
    """Whether there is an image file in a folder, those of its subfolders left out."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


def _split_of(name: Path) -> Split:
    bucket = zlib.crc32(name.as_posix().encode()) % SPLIT_BUCKETS
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


def _name_broken(broken: Sequence[tuple[Path, Exception]]) -> None:
    if broken:
        named = ", ".join(f"{path} ({error})" for path, error in broken[:MAX_NAMED_FILES])
        more = f" and {len(broken) - MAX_NAMED_FILES} more" if len(broken) > MAX_NAMED_FILES else ""
        _log.warning("%d image file(s) cannot be read and are left out: %s%s", len(broken), named, more)


def _read(path: Path, side: int) -> np.ndarray | Exception:
    """`(side, side, 3) uint8`, or what went wrong."""
    try:
        with open_picture(path) as image:
            image = ImageOps.fit(upright_rgb(image), (side, side), Image.Resampling.LANCZOS)
    except Exception as error:  # whatever a broken file makes the decoder raise
        return error
    return np.asarray(image)


def read_picture(
    path: Path, channels: int, formats: tuple[str, ...] = PICTURE_FORMATS, max_pixels: int | None = None
) -> Tensor:
    """One picture as it is, `(channels, H, W) uint8`. Raises `ValueError` for a file that is none, or a larger one."""
    with open_picture(path, formats, max_pixels) as image:
        return pil_to_tensor(upright_rgb(image).convert("L" if channels == 1 else "RGB"))


def read_samples(folder: Path, side: int, channels: int) -> tuple[Tensor, list[str]]:
    """Every picture at or below `folder` as it is, `(N, channels, side, side) uint8`, and the subfolder of each.

    Raises `DataError` for a picture of another size or one that cannot be read: samples are measured whole or not at
    all.
    """
    paths = _image_paths(folder)
    pictures = []
    for path in tqdm(paths, f"reading {folder}", leave=False):
        try:
            pictures.append(read_picture(path, channels))
        except ValueError as error:
            raise DataError(str(error)) from error
        if (size := tuple(pictures[-1].shape[1:])) != (side, side):
            raise DataError(f"{path} has {size[1]}x{size[0]} pixels: give samples of {side}x{side}, as the dataset has")
    return torch.stack(pictures), [path.parent.name if path.parent != folder else "" for path in paths]


def has_transparency(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def on_white(image: Image.Image) -> Image.Image:
    """A picture with transparent parts laid on white, as RGBA."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def to_8_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits as one of 8."""
    return Image.fromarray((np.asarray(image).astype(np.float64) / 257).clip(0, 255).round().astype(np.uint8))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as RGB: turned as its EXIF data says, opaque on white, 16 bits scaled to 8."""
    image = ImageOps.exif_transpose(image)
    if has_transparency(image):
        image = on_white(image)
    elif image.mode.startswith("I"):
        image = to_8_bits(image)
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    return image.convert("RGB")
