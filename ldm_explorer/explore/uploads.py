"""Pictures that came from outside: each is decoded once, one at a time, with bounded memory and time."""

import json
import os
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path

from PIL import Image

DECODER = Path(__file__).with_name("decode_upload.py")
_PATIENCE_SECONDS = 60
_one_at_a_time = threading.Lock()


def read_upload(path: str | Path) -> Image.Image:
    """A picture of at most 1,024 pixels a side, upright, in mode L, RGB, RGBA or I; the last few are kept.

    Raises `ValueError` for a file that is no PNG, JPEG, WebP, GIF, BMP or TIFF, has a side of more than 4,096 pixels,
    is cut short, or takes too much memory or time.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise ValueError("the image is no longer there: give it again") from error
    with _one_at_a_time:
        outcome = _decoded(str(path), status.st_mtime_ns, status.st_size)
    if isinstance(outcome, str):
        raise ValueError(outcome)
    return outcome.copy()


@lru_cache(maxsize=8)
def _decoded(path: str, _mtime_ns: int, _size_bytes: int) -> Image.Image | str:
    """The picture, or the sentence that refuses it: several handlers ask for either. Another time or size of the file
    is another entry of the cache."""
    try:
        done = subprocess.run(
            [sys.executable, str(DECODER), path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_SECONDS,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return "the image takes too much memory or time to read: give a smaller one, or another format"
    head, pixels = done.stdout.split(b"\n", 1)
    answer = json.loads(head)
    if "refused" in answer:
        return answer["refused"]
    return Image.frombytes(answer["mode"], tuple(answer["size"]), pixels)
