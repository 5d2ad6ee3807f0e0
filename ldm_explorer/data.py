"""Datasets: one `DatasetSpec` per name, held in memory as tensors.

Images travel as `(N, C, S, S) uint8` already padded to the model's side S; `to_model` turns them into
`(N, C, S, S) float32 in [-1, 1]` and `crop` goes back to the side they are scored at (measures: 28x28).
"""

import gzip
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import FashionMNIST

Split = Literal["train", "validation", "test"]


class DataError(RuntimeError):
    """The dataset cannot be had; the message says what to do."""


@dataclass(frozen=True)
class DatasetSpec:
    """What there is to know about a dataset before loading it.

    `load(data_dir, train)` returns `(N, C, H, W) uint8` images and `(N,) int64` labels in 0..K-1. The last
    `num_validation` training images are the validation split: no model in this project is trained on them.
    """

    channels: int
    side: int
    model_side: int
    class_names: tuple[str, ...]
    num_validation: int
    background: int
    load: Callable[[Path | None, bool], tuple[Tensor, Tensor]]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def label_of(self, class_name: str) -> int:
        """Raises `ValueError` for a name that is no class."""
        if class_name not in self.class_names:
            raise ValueError(f"unknown class {class_name!r}: choose one of {', '.join(self.class_names)}")
        return self.class_names.index(class_name)

    @property
    def null_class(self) -> int:
        """The label that means "no label" (measures: K)."""
        return self.num_classes


@dataclass(frozen=True)
class ImageSet:
    """Padded images `(N, C, S, S) uint8` with labels `(N,) int64`."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


def cache_dir() -> Path:
    """Where downloads go: outside the repository, shared by every run."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ldm-explorer"


def load_split(name: str, split: Split, data_dir: Path | None = None) -> ImageSet:
    """Load one split of a registered dataset, padded to the model's side.

    Raises `ValueError` for an unknown name and `DataError` when the files are nowhere to be had.
    """
    spec = dataset_spec(name)
    images, labels = spec.load(data_dir, split != "test")
    if split == "train":
        images, labels = images[: -spec.num_validation], labels[: -spec.num_validation]
    elif split == "validation":
        images, labels = images[-spec.num_validation :], labels[-spec.num_validation :]
    return ImageSet(pad(images, spec), labels)


def dataset_spec(name: str) -> DatasetSpec:
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}: choose one of {', '.join(DATASETS)}")
    return DATASETS[name]


def pad(images: Tensor, spec: DatasetSpec) -> Tensor:
    """`(..., side, side)` to `(..., model_side, model_side)`, centred on the background value."""
    low = (spec.model_side - spec.side) // 2
    high = spec.model_side - spec.side - low
    return F.pad(images, (low, high, low, high), value=spec.background)


def crop(images: Tensor, spec: DatasetSpec) -> Tensor:
    """Undo `pad`: `(..., model_side, model_side)` to `(..., side, side)`."""
    low = (spec.model_side - spec.side) // 2
    return images[..., low : low + spec.side, low : low + spec.side]


def to_model(images: Tensor) -> Tensor:
    """`uint8` in [0, 255] to `float32` in [-1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(pixels: Tensor) -> Tensor:
    """`float` in [-1, 1] to `uint8` in [0, 255], clamped and rounded."""
    return pixels.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


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
    shape = np.frombuffer(data, ">u4", rank, offset=4) if len(data) >= 4 + 4 * rank else []
    if len(data) != 4 + 4 * rank + int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{path} is cut short ({len(data)} bytes): replace it with the original")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


FASHION_MNIST_SYSTEM_DIR = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the four IDX files."""


def _find_idx(folder: Path, part: str, kind: str) -> Path | None:
    names = [f"{part}-{kind}-ubyte", f"{part}-{kind}-ubyte.gz"]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def load_fashion_mnist(data_dir: Path | None, train: bool) -> tuple[Tensor, Tensor]:
    """Fashion-MNIST (Xiao et al. 2017, MIT licence) from `data_dir`, Debian's folder, the cache or the network."""
    part, expected = ("train", 60_000) if train else ("t10k", 10_000)
    folder = data_dir or FASHION_MNIST_SYSTEM_DIR
    images_path = _find_idx(folder, part, "images-idx3")
    labels_path = _find_idx(folder, part, "labels-idx1")
    if data_dir and not (images_path and labels_path):
        raise DataError(f"{data_dir} lacks {part}-images-idx3-ubyte[.gz] or {part}-labels-idx1-ubyte[.gz]")
    if images_path and labels_path:
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.shape != (expected, 28, 28) or labels.shape != (expected,) or labels.max() > 9:
            raise DataError(
                f"{folder} does not hold Fashion-MNIST: got {images.shape} images and {labels.shape} labels"
            )
        return torch.tensor(images)[:, None], torch.tensor(labels).long()
    try:
        dataset = FashionMNIST(cache_dir(), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            "Fashion-MNIST is neither here nor can it be downloaded: connect to the network, or install Debian's "
            "dataset-fashion-mnist, or give the folder of the four IDX files with --data-dir"
        ) from error
    return dataset.data[:, None], dataset.targets


DATASETS: dict[str, DatasetSpec] = {
    "fashion_mnist": DatasetSpec(
        channels=1,
        side=28,
        model_side=32,
        class_names=(
            "T-shirt",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        num_validation=10_000,
        background=0,
        load=load_fashion_mnist,
    ),
}
