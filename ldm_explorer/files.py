"""Files that others may have written: opened without waiting for anybody, and no larger than what is asked for."""

import io
import os
import reprlib
import stat
import unicodedata
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from PIL import Image
from pydantic import TypeAdapter, ValidationError

MAX_JSON_BYTES = 4_000_000
MAX_PICTURE_BYTES = 64_000_000
MAX_SHOWN = 80
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
"""Decoders that only decode: Pillow's others include one that starts a program (EPS)."""

Typed = TypeVar("Typed")
_OBJECT = TypeAdapter(dict[str, Any])


class CheckpointError(ValueError):
    """A file or folder that cannot be read as part of a checkpoint; the message names it and says what is missing."""


def printable(text: object) -> str:
    """A text or path on one line that any terminal and page can show: control characters and the like are escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


def is_text(path: object) -> bool:
    """Whether a page, log or file of ours can hold a path: no control characters, no bytes that are not UTF-8."""
    return not any(unicodedata.category(char) in ("Cc", "Cs") for char in str(path))


def unique_name(name: str, taken: Container[str]) -> str:
    """The name, with a number behind it where it is taken."""
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name} ({number})", number + 1
    return unique


def shown(value: object) -> str:
    """What came, cut at 80 characters."""
    text = printable(reprlib.repr(value))
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def with_article(name: str) -> str:
    """As "a DDPMScheduler" and "an AutoencoderKL"; of a class that came from outside no more than 80 characters."""
    return f"{'an' if name[:1] in 'AEIO' else 'a'} {printable(name)[:MAX_SHOWN]}"


def counted(number: int, noun: str) -> str:
    """As "1 step" and "16 steps"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def as_sentence(text: str) -> str:
    """With a capital at its beginning, but where that is the name of a file."""
    return text if "." in text.split(maxsplit=1)[0] else text[0].upper() + text[1:]


def first_line(error: BaseException) -> str:
    """What an error says, without the rest, as it can be printed; its kind when it says nothing."""
    lines = str(error).strip().splitlines()
    return printable(lines[0]) if lines else type(error).__name__


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe would wait for somebody to write


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """A regular file, opened to be read. Raises `CheckpointError` for anything else, `OSError` for none."""
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise CheckpointError(f"{printable(path)} is no regular file: put a plain file there or take it out")
        yield file


def read_bytes(path: Path, max_bytes: int | None = None) -> bytes:
    """The content of a regular file.

    Raises `CheckpointError` for anything else and for a file of more than `max_bytes`, `OSError` for one that is not
    there or cannot be opened.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if max_bytes is not None and size > max_bytes:
            raise CheckpointError(f"{printable(path)} has {size / 1e6:,.1f} MB: {max_bytes / 1e6:g} are read at most")
        return file.read(-1 if max_bytes is None else max_bytes)  # it may grow meanwhile


def cache_dir() -> Path:
    """Where downloads and memory maps go: outside the repository, shared by every run."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ldm-explorer"


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file, {} when there is none. Raises `CheckpointError` when it is not a JSON object."""
    return read_typed(path, _OBJECT) or {}


def read_typed(path: Path, kind: TypeAdapter[Typed]) -> Typed | None:
    """The content of a JSON file as a typed value, None when there is no such file.

    Raises `CheckpointError` that names the file, the field, what stands there and what should.
    """
    try:
        content = read_bytes(path, MAX_JSON_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{printable(path)} cannot be read as JSON: {error.strerror}") from error
    try:
        return kind.validate_json(content)
    except ValidationError as error:
        raise CheckpointError(f"{printable(path)}{why_invalid(error)}") from error


def why_invalid(error: ValidationError) -> str:
    """What is wrong first with a JSON text, to be put behind its name."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return f" cannot be read as JSON: {first['msg'].removeprefix('Invalid JSON: ')}"
    if not first["loc"]:
        return " is no JSON object"
    field = printable(".".join(map(str, first["loc"])))[:MAX_SHOWN]
    if first["type"] == "missing":
        return f" has no {field}"
    return f": {field} is {shown(first['input'])}, {first['msg'].replace('Input', 'it')}"


@contextmanager
def open_picture(path: Path, formats: tuple[str, ...] = PICTURE_FORMATS, max_pixels: int | None = None) -> Iterator:
    """A Pillow image of which nothing but the header was decoded. Raises `ValueError` for a file that is none.

    Whatever its pixels make Pillow raise while the block decodes them becomes that error, too.
    """
    try:
        with open_picture_bytes(read_bytes(path, MAX_PICTURE_BYTES), formats) as image:
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise ValueError(f"it has {image.width} x {image.height} pixels, {max_pixels:,} are read at most")
            yield image
    except Exception as error:  # whatever a broken file makes the decoder raise
        raise ValueError(f"{printable(path)} is no picture: {first_line(error)}") from error


def open_picture_bytes(content: bytes, formats: tuple[str, ...] = PICTURE_FORMATS) -> Image.Image:
    """A Pillow image of which nothing but the header was decoded; what is none makes Pillow raise anything."""
    return Image.open(io.BytesIO(content), formats=formats)
