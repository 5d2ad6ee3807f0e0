"""Arrays in a file, of which the system keeps in memory what is looked at: for what is larger than memory."""

import os
import tempfile
from math import prod
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

LAZY_SHARE = 0.5
"""Share of the memory that tensors may take before they go to a file."""
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_bytes() -> int:
    """The memory that this process may use: the machine's, or less in a container."""
    try:
        limit = int(_CGROUP_LIMIT.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        limit = psutil.virtual_memory().total
    return min(limit, psutil.virtual_memory().total)


def is_large(num_bytes: int) -> bool:
    """Whether so many bytes are too many to be held in memory."""
    return num_bytes > LAZY_SHARE * memory_bytes()


def new_array_file(path: Path, shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> np.memmap:
    """A `.npy` file to be written, its place on the disk taken: writing into a hole of a full disk kills.

    Raises `OSError`.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        _take_place(file.fileno(), path.stat().st_size)
    return array


def read_array_file(path: Path) -> Tensor:
    """A tensor over a `.npy` file; writing into it changes nothing on the disk. Raises `OSError` or `ValueError`."""
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def temporary_tensor(shape: tuple[int, ...], folder: Path) -> Tensor:
    """A tensor of zeros, `float32`, over a file without a name in a folder: it is gone with its tensor or process."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        num_bytes = 4 * prod(shape)
        file.truncate(num_bytes)
        _take_place(file.fileno(), num_bytes)
        return torch.from_numpy(np.memmap(file, np.float32, mode="r+", shape=shape))


def _take_place(file: int, num_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, num_bytes)
