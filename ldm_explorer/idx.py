"""IDX files: how MNIST and the datasets made in its image are distributed."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from ldm_explorer.image_folder import DataError


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or gzipped (http://yann.lecun.com/exdb/mnist, "file formats").

    Raises `DataError` when the file is not one or is cut short.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as an IDX file: {error}") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an IDX file of unsigned bytes: replace it with the original")
    rank = data[3]
    shape: list[int] = np.frombuffer(data, ">u4", rank, offset=4).tolist() if len(data) >= 4 + 4 * rank else []
    if len(data) != 4 + 4 * rank + int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{path} is cut short ({len(data)} bytes): replace it with the original")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def find_idx(folder: Path, part: str, kind: str) -> Path | None:
    """The file of a part ("train", "t10k") and a kind ("images-idx3", "labels-idx1") of the MNIST family, if there."""
    names = [f"{part}-{kind}-ubyte", f"{part}-{kind}-ubyte.gz"]
    return next((folder / name for name in names if (folder / name).is_file()), None)
