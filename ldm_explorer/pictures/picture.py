"""One picture of anybody's to 8-bit RGB: turned upright, opaque, its values scaled by the bits that they have."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_png
from torchvision.transforms.functional import pil_to_tensor

from ldm_explorer.files import PICTURE_FORMATS, open_picture, open_picture_bytes

DEPTHS = (8, 10, 12, 14, 16)
"""Bits per value that cameras and scanners have; files hold all but the first in 16."""
MAX_DEEP_PIXELS = 50_000_000
"""Larger than any camera's, and 300 MB of colour."""
_PNG_DEPTH = 24
"""Where the header of a PNG has its bits per value (PNG specification, section 11.2.2)."""


@cache
def picture_suffixes() -> frozenset[str]:
    """Those of the formats that are read, as Pillow knows them, in lower case with their dot."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in PICTURE_FORMATS)


def read_picture(
    path: Path, channels: int, formats: tuple[str, ...] = PICTURE_FORMATS, max_pixels: int | None = None
) -> Tensor:
    """One picture as it is, `(channels, H, W) uint8`. Raises `ValueError` for a file that is none, or a larger one."""
    with open_picture(path, formats, max_pixels) as image:
        return pil_to_tensor(upright_rgb(image).convert("L" if channels == 1 else "RGB"))


def square_pixels(content: bytes, side: int, depth: int | None) -> np.ndarray | int:
    """The central square of a picture file, `(3, side, side) uint8`.

    Without a `depth`, for a picture of more than 8 bits, its brightest value: the depth is that of all together.
    Raises whatever a broken file makes the decoder raise, `ValueError` for values that have no agreed range.
    """
    with open_picture_bytes(content) as image:
        values = deep_values(image, content)
        if values is not None and depth is None:
            return brightest(values)
        shown = upright_rgb(image if values is None else _to_8_bits(values, depth, image))
    square = ImageOps.fit(shown, (side, side), Image.Resampling.LANCZOS)
    return np.asarray(square).transpose(2, 0, 1)


def deep_values(image: Image.Image, content: bytes = b"") -> np.ndarray | None:
    """The values `(H, W)` or `(H, W, channels)` of a picture of 16 bits, None for one of 8.

    Of coloured ones Pillow keeps 8 of the 16, so that 12 bits become black; a PNG's `content` has them all. Raises
    `ValueError` for values that have no agreed range.
    """
    is_deep = image.mode.startswith("I") or (image.format == "PNG" and content[_PNG_DEPTH : _PNG_DEPTH + 1] == b"\x10")
    if is_deep and image.width * image.height > MAX_DEEP_PIXELS:
        raise ValueError(
            f"{image.width} x {image.height} pixels of 16 bits: at most {MAX_DEEP_PIXELS // 1_000_000} million are read"
        )
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range: save them with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() >= 2 ** DEPTHS[-1]:
            raise ValueError(
                f"pixels from {values.min()} to {values.max()} have no agreed range: save them with 8 or 16 bits"
            )
        return values
    if is_deep:
        pixels = decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED)
        return pixels.permute(1, 2, 0).numpy()
    return None


def brightest(values: np.ndarray) -> int:
    """The largest of deep values, transparency left out."""
    return int(values[..., :-1].max() if _has_alpha(values) else values.max())


def _has_alpha(values: np.ndarray) -> bool:
    return values.ndim == 3 and values.shape[2] in (2, 4)


def depth_of(value: int) -> int:
    """The fewest bits that a camera or scanner has for a value."""
    return next(bits for bits in DEPTHS if value < 2**bits)


def _to_8_bits(values: np.ndarray, depth: int | None, original: Image.Image) -> Image.Image:
    """Values of a number of bits, by default those that they need, as a picture of 8 that is turned as its original."""
    scaled = _table(depth or depth_of(brightest(values)))[values]  # by table: floats would take eight times the memory
    if _has_alpha(values):
        scaled[..., -1] = _table(DEPTHS[-1])[values[..., -1]]
    image = Image.fromarray(scaled)
    image.getexif()[ExifTags.Base.Orientation] = original.getexif().get(ExifTags.Base.Orientation, 1)
    return image


@cache
def _table(bits: int) -> np.ndarray:
    """What every value of 16 bits is in 8, where so many bits are used."""
    return (np.arange(2 ** DEPTHS[-1]) * (255 / (2**bits - 1))).clip(0, 255).round().astype(np.uint8)


def has_transparency(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def on_white(image: Image.Image) -> Image.Image:
    """A picture with transparent parts laid on white, as RGBA."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def to_8_bits(image: Image.Image) -> Image.Image:
    """A picture of 16 bits as one of 8, scaled by the bits that it needs; one of 8 as it is. Raises `ValueError`."""
    values = deep_values(image)
    return image if values is None else _to_8_bits(values, None, image)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as RGB: turned as its EXIF data says, opaque on white, more than 8 bits scaled to 8."""
    image = ImageOps.exif_transpose(to_8_bits(image))
    if has_transparency(image):
        image = on_white(image)
    return image.convert("RGB")
