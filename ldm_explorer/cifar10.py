"""CIFAR-10's binary version, downloaded where it is not here. Not torchvision's own class: that one unpickles."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.utils import download_and_extract_archive

from ldm_explorer.files import cache_dir
from ldm_explorer.pictures.listing import DataError

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_RECORD = 1 + 3 * 32 * 32


def read_cifar10(data_dir: Path | None, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    """Images `(N, 3, 32, 32) uint8` and labels `(N,)`; without `data_dir` from the cache. Raises `DataError`."""
    folder = data_dir or cache_dir() / "cifar-10-batches-bin"
    names = ["test_batch.bin"] if part == "test" else [f"data_batch_{number}.bin" for number in range(1, 6)]
    if data_dir is None and not all((folder / name).is_file() for name in names):
        try:
            download_and_extract_archive(CIFAR10_URL, cache_dir(), md5=CIFAR10_MD5)
        except (OSError, RuntimeError) as error:
            raise DataError(
                "CIFAR-10 is neither here nor can it be downloaded: connect to the network, or give the folder of its "
                "binary version's files with --data-dir"
            ) from error
    batches = [_read_batch(folder / name) for name in names]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return images, labels


def _read_batch(path: Path) -> tuple[Tensor, Tensor]:
    data = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
    if data.size != 10_000 * _RECORD or data[::_RECORD].max() > 9:
        raise DataError(f"{path} is missing or is no batch of CIFAR-10's binary version: get it again")
    records = torch.from_numpy(data).view(-1, _RECORD)
    return records[:, 1:].view(-1, 3, 32, 32), records[:, 0].long()
