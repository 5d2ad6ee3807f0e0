"""What can be wrong with weights, statistics and pictures."""

import io
import random
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from mutant import Mutant, written
from PIL import Image
from safetensors.torch import load, save_file


def of_binary(name: str, content: bytes) -> Iterator[Mutant]:
    for length in (0, 4, 8, 100, len(content) // 2, len(content) - 1):
        yield Mutant(name, f"cut to {length} bytes", written(name, lambda length=length: content[:length]))
    order = random.Random(name)
    for number in range(10):
        for part, bounds in {"its first bytes": (0, 8), "its head": (8, 300), "its body": (300, len(content))}.items():
            places = order.sample(range(*bounds) if bounds[1] > bounds[0] else range(8), 1 + number // 3)
            changed = written(name, partial(_flipped, content, places))
            yield Mutant(name, f"bits of {part} flipped, {number}", changed)
    yield Mutant(name, "bytes behind its end", written(name, lambda: content + bytes(1000)))
    yield Mutant(name, "a header without end", written(name, lambda: b"\xff" * 5 + bytes(3) + content[8:]))
    header = (90_000_000).to_bytes(8, "little")
    yield Mutant(name, "a header of 90 MB", written(name, lambda: header + b"{" + b" " * 90_000_000))
    yield Mutant(name, "zeros", written(name, lambda: bytes(len(content))))


def of_tensors(name: str, content: bytes) -> Iterator[Mutant]:
    """Whole files of safetensors, each with one tensor or all of them changed."""
    tensors = load(content)
    changes = {
        "NaN": lambda tensor: torch.full_like(tensor.float(), torch.nan),
        "infinite": lambda tensor: torch.full_like(tensor.float(), torch.inf),
        "zeros": torch.zeros_like,
        "negative": lambda tensor: -tensor.float().abs() - 1,
        "large": lambda tensor: tensor.float() * 1e20,
        "of int8": lambda tensor: tensor.to(torch.int8),
        "of bool": lambda tensor: tensor.bool(),
        "of float64": lambda tensor: tensor.double(),
        "half as long": lambda tensor: tensor[: len(tensor) // 2],
        "flat": lambda tensor: tensor.flatten(),
        "without axes": lambda tensor: tensor.flatten()[0],
        "empty": lambda tensor: tensor[:0],
    }
    one = list(tensors) if len(tensors) < 20 else list(tensors)[:: len(tensors) // 5]
    for what, change in changes.items():
        yield Mutant(name, f"every tensor is {what}", _saved(name, {key: change(tensors[key]) for key in tensors}))
        for key in one:
            yield Mutant(name, f"{key} is {what}", _saved(name, tensors | {key: change(tensors[key])}))
    for key in one:
        yield Mutant(name, f"{key} is gone", _saved(name, {other: tensors[other] for other in tensors if other != key}))
        yield Mutant(name, f"{key} is there twice", _saved(name, tensors | {f"{key}.again": tensors[key].clone()}))


def _saved(name: str, tensors: dict[str, torch.Tensor]) -> Callable[[Path], object]:
    return lambda folder: save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name)


def _flipped(content: bytes, places: list[int]) -> bytes:
    changed = bytearray(content)
    for place in places:
        changed[place % len(content)] ^= 1 << place % 8
    return bytes(changed)


def of_pictures() -> Iterator[Mutant]:
    for name in ("film/step-000000005.webp", "images/1/00001.png"):
        for size in ((20_000, 20_000), (16_000, 1), (1, 16_000), (9, 16), (4096, 4096)):
            for kind in ("PNG", "WEBP", "GIF", "TIFF", "EPS"):
                yield Mutant(name, f"{size[0]} x {size[1]} pixels, {kind}", _picture(name, size, kind))
        for mode in ("1", "P", "RGBA", "I;16", "F", "CMYK", "LA"):
            kind = "TIFF" if mode in ("F", "CMYK") else "PNG"
            yield Mutant(name, f"pixels of mode {mode}", _picture(name, (16, 16), kind, mode))


def _picture(name: str, size: tuple[int, int], kind: str, mode: str = "RGB") -> Callable[[Path], None]:
    """A picture in the place of another; of the largest the header alone, as whoever attacks would write it."""

    def change(folder: Path) -> None:
        if kind == "PNG" and mode == "RGB":
            (folder / name).write_bytes(png_header(*size))
        elif kind == "WEBP" and max(size) > 16_383:
            (folder / name).write_bytes(webp_of_size(*size))
        else:
            sides = [min(side, 16_000 if min(size) == 1 else 2000) for side in size]
            Image.new(mode, sides).save(folder / name, kind)

    return change


def png_header(width: int, height: int) -> bytes:
    """What begins a PNG of that size, and no pixel of it."""
    sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    chunk = b"IHDR" + sides + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + chunk + zlib.crc32(chunk).to_bytes(4, "big") + b"\0\0\0\x08IDAT"


def webp_of_size(width: int, height: int) -> bytes:
    """A WebP that says it is of that size, with two frames in its corner."""
    content, frames = io.BytesIO(), [Image.new("RGB", (8, 8), color) for color in ("red", "green")]
    frames[0].save(content, "WEBP", save_all=True, append_images=frames[1:])
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    return content.getvalue()[:24] + sides + content.getvalue()[30:]
