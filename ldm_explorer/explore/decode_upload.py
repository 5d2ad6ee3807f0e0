"""Decode a file that came from outside, in a process of its own which may use only so much memory and time.

`python decode_upload.py FILE` writes one line of JSON and, where the picture could be read, its bytes. Whatever a file
does to a decoder, it does it here. Imports Pillow alone, so that it starts in a tenth of a second.
"""

import json
import sys
import warnings

from PIL import ExifTags, Image, ImageOps

FORMATS = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP", "TIFF": "TIFF"}
MAX_SIDE = 4096
WORKING_SIDE = 1024
MAX_MEMORY_BYTES = 128 * 1024**2
MAX_CPU_SECONDS = 5
MAX_WEBP_PIXELS = 2600**2  # its decoder holds the picture five times
_BAND_ROWS = 256


class RefusedError(Exception):
    """The sentence says why."""


def read(path: str) -> Image.Image:
    """The first picture of a file: upright, in mode L, RGB, RGBA or I (16 bits), at most 1,024 pixels a side.

    Raises `RefusedError` for another format and for sizes over 4,096, before anything is decoded.
    """
    try:
        image = Image.open(path, formats=list(FORMATS))
    except Image.UnidentifiedImageError as error:
        raise RefusedError(f"the file cannot be read as an image: give one of {', '.join(FORMATS.values())}") from error
    has = f"the image has {image.width} x {image.height} pixels"
    if max(image.size) > MAX_SIDE:
        raise RefusedError(f"{has}: give one of at most {MAX_SIDE:,} a side")
    if image.format == "WEBP" and image.width * image.height > MAX_WEBP_PIXELS:
        raise RefusedError(f"{has}, too many for a WebP: give one of at most 2,600 x 2,600, or a JPEG or PNG")
    scale = min(1, WORKING_SIDE / max(image.size))
    width, height = (max(1, int(side * scale)) for side in image.size)
    image.draft(None, (width, height))  # a JPEG is decoded at a fraction
    image.load()
    small = shrunk(image)
    small.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    return ImageOps.exif_transpose(small)


def shrunk(image: Image.Image) -> Image.Image:
    """At most 1,024 pixels a side, by bands of rows: a second copy of the whole would not fit beside the first."""
    factor = max(1, max(image.size) // WORKING_SIDE)
    size = (-(-image.width // factor), -(-image.height // factor))
    small = Image.new(plain(image.crop((0, 0, 1, 1))).mode, size)
    for top in range(0, image.height, _BAND_ROWS * factor):
        bottom = min(image.height, top + _BAND_ROWS * factor)
        band = plain(image.crop((0, top, image.width, bottom))).reduce(factor)
        small.paste(band, (0, top // factor))
    small.thumbnail((WORKING_SIDE, WORKING_SIDE))
    return small


def plain(image: Image.Image) -> Image.Image:
    """In one of the four modes that everything else can be turned into."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode == "F":
        raise RefusedError("the image has floating-point pixels, which have no agreed range: give one of 8 or 16 bits")
    if image.mode.startswith("I"):
        return image.convert("I")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def limit() -> None:
    """Bound what this process may take, where the system can: Windows cannot, macOS bounds the time alone."""
    try:
        import resource
    except ImportError:
        return
    for what, most in ((resource.RLIMIT_DATA, MAX_MEMORY_BYTES), (resource.RLIMIT_CPU, MAX_CPU_SECONDS)):
        allowed = resource.getrlimit(what)[1]
        most = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(what, (most, most))


def main(path: str) -> None:
    limit()
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # sizes are looked at here
    answer: dict[str, object]
    try:
        image = read(path)
    except RefusedError as error:
        answer, pixels = {"refused": str(error)}, b""
    except Exception as error:  # whatever a broken file makes a decoder raise, out of memory too
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        why = f"it may be cut short or need too much memory ({what})"
        answer, pixels = {"refused": f"the image cannot be read, {why}"}, b""
    else:
        answer, pixels = {"mode": image.mode, "size": image.size}, image.tobytes()
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + pixels)


if __name__ == "__main__":
    main(sys.argv[1])
