"""Datasets: one `Dataset` per name, held in memory as tensors.

Images travel as `(N, C, S, S) uint8` already padded to the model's side S; `to_model` turns them into
`(N, C, S, S) float32 in [-1, 1]` and `crop` goes back to the side they are scored at (measures: 28x28).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import datasets

from ldm_explorer.cifar10 import read_cifar10
from ldm_explorer.files import cache_dir, shown
from ldm_explorer.idx import find_idx, read_idx
from ldm_explorer.image_folder import DataError, read_image_folder
from ldm_explorer.options import as_path
from ldm_explorer.pictures.collection import MemoryMap, Pictures
from ldm_explorer.pictures.hugging_face import read_hugging_face
from ldm_explorer.pictures.layout import Split

FOLDER_PREFIX, HUGGING_FACE_PREFIX = "folder:", "hf:"
FOLDER_SIDE = 64
SIDE_MULTIPLE = 8
MAX_SIDE = 512
"""The side of the largest images that a model here is made for."""


@dataclass(frozen=True)
class DatasetSpec:
    """What there is to know about the images of a dataset; it is stored with every checkpoint."""

    channels: int
    side: int
    model_side: int
    class_names: tuple[str, ...]  # () when there are no classes
    background: int

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
class Dataset:
    """A dataset and how to get it.

    `load(data_dir, split)` returns `(N, C, side, side) uint8` images and `(N,) int64` labels in 0..K-1. No model in
    this project is trained on the validation split or the test split.
    """

    spec: DatasetSpec
    load: Callable[[Path | None, Split], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ImageSet:
    """Padded images `(N, C, S, S) uint8` with labels `(N,) int64`."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


def find_dataset(name: str, image_side: int | None = None, memory_map: MemoryMap = "auto") -> Dataset:
    """A registered dataset, or pictures as `find_pictures` finds them.

    Raises `ValueError` for an unknown name or a side that does not fit, `DataError` for a folder without images.
    """
    if (pictures := find_pictures(name, image_side, memory_map)) is not None:
        side = pictures.images.shape[-1]
        spec = DatasetSpec(pictures.images.shape[1], side, side, pictures.class_names, background=0)
        return Dataset(spec, lambda _, split: pictures.split(split))
    if image_side not in (None, dataset_spec(name).side):
        raise ValueError(
            f"--image-side is {shown(image_side)}: the images of {name} have side {dataset_spec(name).side}"
        )
    return DATASETS[name]


def find_pictures(name: str, image_side: int | None = None, memory_map: MemoryMap = "auto") -> Pictures | None:
    """The pictures of `folder:PATH` or `hf:NAME` at `image_side` (default 64) pixels, None for a registered dataset.

    `hf:` takes a dataset of the `datasets` library: `owner/name` on the Hub, or a folder that it saved. Raises
    `ValueError` for a side that does not fit, `DataError` for what holds no images.
    """
    if not isinstance(name, str) or not name.startswith((FOLDER_PREFIX, HUGGING_FACE_PREFIX)):
        return None
    side = FOLDER_SIDE if image_side is None else image_side
    if not isinstance(side, int) or not SIDE_MULTIPLE <= side <= MAX_SIDE or side % SIDE_MULTIPLE:
        raise ValueError(
            f"--image-side is {shown(side)}: give a multiple of {SIDE_MULTIPLE} up to {MAX_SIDE}, such as {FOLDER_SIDE}"
        )
    if name.startswith(FOLDER_PREFIX):
        return read_image_folder(Path(name.removeprefix(FOLDER_PREFIX)).expanduser(), side, memory_map)
    return read_hugging_face(name.removeprefix(HUGGING_FACE_PREFIX), side, memory_map)


def load_split(
    name: str,
    split: Split,
    data_dir: Path | str | None = None,
    image_side: int | None = None,
    memory_map: MemoryMap = "auto",
) -> ImageSet:
    """Load one split of a dataset, padded to the model's side.

    Raises `ValueError` for an unknown split and as `find_dataset` does, `DataError` when the files are nowhere to be
    had, or hold other images or classes than the dataset's.
    """
    if split not in get_args(Split):
        raise ValueError(f"unknown split {shown(split)}: choose one of {', '.join(get_args(Split))}")
    dataset = find_dataset(name, image_side, memory_map)
    folder = None if data_dir is None else as_path(data_dir, "the folder with the dataset's files")
    images, labels = dataset.load(folder, split)
    spec, shape = dataset.spec, tuple(images.shape[1:])
    if shape != (wanted := (spec.channels, spec.side, spec.side)):
        raise DataError(f"images of {name} have the shape {shape}: {wanted} is what is known of them")
    if spec.num_classes and int(labels.max()) >= spec.num_classes:
        raise DataError(
            f"{name} has labels up to {int(labels.max())}, and {spec.num_classes} names of classes: give as many names"
        )
    return ImageSet(pad(images, dataset.spec), labels)


def dataset_spec(name: str) -> DatasetSpec:
    """The images of a registered dataset. Raises `ValueError` for another name."""
    if not isinstance(name, str) or name not in DATASETS:
        known = f"{', '.join(DATASETS)}, {FOLDER_PREFIX}PATH or {HUGGING_FACE_PREFIX}NAME"
        raise ValueError(f"unknown dataset {shown(name)}: choose one of {known}")
    return DATASETS[name].spec


def pad(images: Tensor, spec: DatasetSpec) -> Tensor:
    """`(..., side, side)` to `(..., model_side, model_side)`, centred on the background value."""
    low = (spec.model_side - spec.side) // 2
    high = spec.model_side - spec.side - low
    if not low and not high:
        return images  # as they are: they may be too many to be copied
    return F.pad(images, (low, high, low, high), value=spec.background)


def crop(images: Tensor, spec: DatasetSpec) -> Tensor:
    """Undo `pad`: `(..., model_side, model_side)` to `(..., side, side)`."""
    low = (spec.model_side - spec.side) // 2
    return images[..., low : low + spec.side, low : low + spec.side]


def check_uint8(images: object, channels: int, side: int) -> None:
    """Raise `ValueError` for what is no tensor `(N, channels, side, side) uint8` of one image or more."""
    wanted = f"give a tensor (N, {channels}, {side}, {side}) uint8"
    if not isinstance(images, Tensor):
        raise ValueError(f"the images are of type {type(images).__name__}: {wanted}")
    if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != (channels, side, side):
        found = f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}"
        raise ValueError(f"the images are {found}: {wanted}")
    if not len(images):
        raise ValueError(f"there are no images: {wanted}")


def to_model(images: Tensor) -> Tensor:
    """`uint8` in [0, 255] to `float32` in [-1, 1]. Raises `ValueError` for others: no other range is known."""
    if images.dtype != torch.uint8:
        raise ValueError(f"the images are {str(images.dtype).removeprefix('torch.')}: give uint8, from 0 to 255")
    return images.float().div_(127.5).sub_(1)


def to_uint8(pixels: Tensor) -> Tensor:
    """`float` in [-1, 1] to `uint8` in [0, 255], clamped and rounded. Raises `ValueError` for whole numbers."""
    if not pixels.is_floating_point():
        raise ValueError(f"the pixels are {str(pixels.dtype).removeprefix('torch.')}: give floats from -1 to 1")
    return pixels.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def _held_out(images: Tensor, labels: Tensor, split: Split, num_validation: int) -> tuple[Tensor, Tensor]:
    """The last training images are the validation split."""
    if split == "train":
        return images[:-num_validation], labels[:-num_validation]
    return images[-num_validation:], labels[-num_validation:]


FASHION_MNIST_SYSTEM_DIR = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the four IDX files."""


def load_mnist_like(name: str, data_dir: Path | None, split: Split) -> tuple[Tensor, Tensor]:
    """MNIST and the datasets made in its image, by the name of their torchvision class.

    From `data_dir` (the four IDX files), for Fashion-MNIST Debian's folder, the cache or the network.
    """
    part, expected = ("t10k", 10_000) if split == "test" else ("train", 60_000)
    folder = data_dir or (FASHION_MNIST_SYSTEM_DIR if name == "FashionMNIST" else None)
    images_path = folder and find_idx(folder, part, "images-idx3")
    labels_path = folder and find_idx(folder, part, "labels-idx1")
    if data_dir and not (images_path and labels_path):
        raise DataError(f"{data_dir} lacks {part}-images-idx3-ubyte[.gz] or {part}-labels-idx1-ubyte[.gz]")
    if images_path and labels_path:
        pixels, classes = read_idx(images_path), read_idx(labels_path)
        if pixels.shape != (expected, 28, 28) or classes.shape != (expected,) or classes.max() > 9:
            raise DataError(f"{folder} does not hold {name}: got {pixels.shape} images and {classes.shape} labels")
        images, labels = torch.tensor(pixels)[:, None], torch.tensor(classes).long()
    else:
        try:
            dataset = getattr(datasets, name)(cache_dir(), train=split != "test", download=True)
        except (OSError, RuntimeError) as error:
            debian = ", or install Debian's dataset-fashion-mnist" if name == "FashionMNIST" else ""
            raise DataError(
                f"{name} is neither here nor can it be downloaded: connect to the network{debian}, or give the folder "
                "of the four IDX files with --data-dir"
            ) from error
        images, labels = dataset.data[:, None], dataset.targets
    return (images, labels) if split == "test" else _held_out(images, labels, split, 10_000)


def training_images_here(name: str) -> Tensor | None:
    """All training images `(M, C, side, side) uint8` in the order of their file, where it is on this machine.

    Nothing is downloaded. None also for a file that cannot be read, and for other datasets than Fashion-MNIST.
    """
    if name != "fashion_mnist":
        return None
    folders = (FASHION_MNIST_SYSTEM_DIR, cache_dir() / "FashionMNIST" / "raw")
    paths = (find_idx(folder, "train", "images-idx3") for folder in folders)
    path = next((path for path in paths if path), None)
    try:
        return None if path is None else torch.tensor(read_idx(path))[:, None]
    except DataError:
        return None


def load_cifar10(data_dir: Path | None, split: Split) -> tuple[Tensor, Tensor]:
    """CIFAR-10 (Krizhevsky 2009) from the binary files in `data_dir`, the cache or the network."""
    images, labels = read_cifar10(data_dir, "test" if split == "test" else "train")
    return (images, labels) if split == "test" else _held_out(images, labels, split, 5_000)


def _mnist_like(torchvision_class: str, *class_names: str) -> Dataset:
    return Dataset(DatasetSpec(1, 28, 32, class_names, background=0), partial(load_mnist_like, torchvision_class))


DATASETS: dict[str, Dataset] = {
    "fashion_mnist": _mnist_like(
        "FashionMNIST",
        *("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "mnist": _mnist_like("MNIST", *"0123456789"),
    "kmnist": _mnist_like("KMNIST", "o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "cifar10": Dataset(
        DatasetSpec(
            channels=3,
            side=32,
            model_side=32,
            class_names=(
                *("airplane", "automobile", "bird", "cat", "deer"),
                *("dog", "frog", "horse", "ship", "truck"),
            ),
            background=0,
        ),
        load_cifar10,
    ),
}
