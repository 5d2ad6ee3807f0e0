"""What one upload costs: CPU-seconds and peak memory of the process that decodes it, interpreter and all.

The largest pictures of each kind that are allowed, and files made to cost more than they may. `python
benchmarks/uploads.py`
"""

import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from ldm_explorer.explore.decode_upload import MAX_SIDE
from ldm_explorer.explore.uploads import DECODER

SIDE = MAX_SIDE
MEASURE = """
import runpy, sys
sys.argv.pop(0)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""


def picture(mode: str) -> Image.Image:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    channels = np.stack([x // 16, y // 16, (x + y) // 32, x // 16], -1).astype(np.uint8)
    return Image.fromarray(channels).convert(mode)


def saved(image: Image.Image, format_: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, format_, **options)
    return content.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(side: int, rows: bytes, depth: int = 8, interlaced: bool = False, before: bytes = b"") -> bytes:
    """RGBA."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, 6, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def interlaced_rows() -> bytes:
    """Of 16-bit RGBA, in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    sizes = [(-(-(SIDE - x) // dx), -(-(SIDE - y) // dy)) for x, y, dx, dy in passes]
    return b"".join((b"\0" + bytes(range(8)) * width) * height for width, height in sizes)


def many_scans() -> bytes:
    """A progressive JPEG whose last scan comes again until the file has 15 MB."""
    whole = saved(picture("RGB"), "JPEG", progressive=True, subsampling=0)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * (15_000_000 // len(last)) + whole[-2:]


def many_segments() -> bytes:
    whole = saved(picture("L"), "JPEG")
    return whole[:2] + b"\xff\xe1\x00\x09Exif\0\0x" * 1_300_000 + whole[2:]


FILES: dict[str, Callable[[], bytes]] = {
    "png": lambda: saved(picture("RGBA"), "PNG"),
    "png, 16 bits": lambda: png(SIDE, (b"\0" + bytes(range(8)) * SIDE) * SIDE, depth=16),
    "png, 16 bits, interlaced": lambda: png(SIDE, interlaced_rows(), depth=16, interlaced=True),
    "png, texts that unpack to 60 MB": lambda: png(
        SIDE, bytes((4 * SIDE + 1) * SIDE), before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 99))) * 60
    ),
    "png of 10,000 a side": lambda: png(10_000, bytes(10_000 * 1000)),
    "jpeg": lambda: saved(picture("RGB"), "JPEG"),
    "jpeg, progressive": lambda: saved(picture("RGB"), "JPEG", progressive=True, subsampling=0),
    "jpeg, 15 MB of scans": many_scans,
    "jpeg, 15 MB of segments": many_segments,
    "webp of 2,600 a side": lambda: saved(picture("RGBA").resize((2600, 2600)), "WEBP", lossless=True, quality=0),
    "webp": lambda: saved(picture("RGB"), "WEBP", method=0),
    "gif, 3 pictures": lambda: saved(picture("P"), "GIF", save_all=True, append_images=[picture("L").convert("P")] * 2),
    "gif, 15 MB of comments": lambda: b"GIF89a\x40\0\x40\0\0\0\0\x21\xfe" + b"\x01x" * 7_500_000 + b"\0;",
    "bmp": lambda: saved(picture("L"), "BMP"),
    "tiff": lambda: saved(picture("RGBA"), "TIFF", compression="tiff_lzw"),
}


def measure(content: bytes) -> tuple[float, str, str]:
    """CPU-seconds, peak memory, and what was answered."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        command = [sys.executable, "-c", MEASURE, DECODER, file.name]
        before = os.times()
        done = subprocess.run(command, capture_output=True)
        after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    if done.returncode:
        return seconds, "-", "ended by its limit of time"
    answer = json.loads(done.stdout.split(b"\n", 1)[0])
    return seconds, f"{int(done.stderr.split()[-2]) / 1024:.0f} MB", answer.get("refused", "read")


def main() -> None:
    print(f"Python {sys.version.split()[0]}, Pillow {Image.__version__}")
    for name, content in FILES.items():
        data = content()
        seconds, memory, answer = measure(data)
        print(f"{name:32} {len(data) / 1e6:6.1f} MB  {seconds:5.2f} s  {memory:>6}  {answer}")


if __name__ == "__main__":
    main()
