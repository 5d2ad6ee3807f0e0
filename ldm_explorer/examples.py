"""A few labelled test images beside a checkpoint, so that the app needs no dataset: `<label>/<index>.png`."""

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ldm_explorer.data import DatasetSpec, ImageSet, crop, pad
from ldm_explorer.files import printable
from ldm_explorer.pictures.picture import read_picture
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import EXAMPLES

SHIPPED_IMAGES = Path(__file__).resolve().parent / "images"
"""<dataset>/<label>/<index in the test set>.png"""
PER_CLASS = 10
MAX_EXAMPLES = 200
MAX_READ = 1000
MAX_PIXELS, MAX_PIXELS_EACH = 64_000_000, 1_000_000
_NAME = r"/[0-9]{1,12}/[0-9]{1,12}\.png"


@dataclass(frozen=True, eq=False)
class Examples:
    """Padded images `(N, C, S, S) uint8`, labels `(N,)` and their indices in the test split.

    Labels are 0 for images of no classes, and None where it is not known which class they are of.
    """

    images: Tensor
    labels: Tensor | None
    test_indices: tuple[int, ...]


def write_examples(run_dir: Path, test: ImageSet, spec: DatasetSpec) -> None:
    """Write the test images of a run, in place of those that it wrote before."""
    with RunFolder(run_dir).replacing(EXAMPLES) as folder:
        draw_examples(folder, test, spec)


def draw_examples(folder: Path, test: ImageSet, spec: DatasetSpec) -> None:
    """Fill a new folder with the first ten test images of each class, fewer where there are many classes."""
    images = crop(test.images, spec)
    labels = test.labels.unique().tolist()
    per_class = max(1, min(PER_CLASS, MAX_EXAMPLES // len(labels)))
    for label in labels:
        (folder / str(label)).mkdir(parents=True)
        for index in (test.labels == label).nonzero().flatten().tolist()[:per_class]:
            to_pil_image(images[index]).save(folder / str(label) / example_file(index), optimize=True)


def example_file(test_index: int) -> str:
    """The name of an example's file, in the folder of its label."""
    return f"{test_index:05d}.png"


def read_examples(folder: Path, spec: DatasetSpec) -> Examples:
    """Those named as they are written; other files beside them do not count.

    Raises `ValueError` when there are none, or too many, or one is broken or of another size or an unknown class.
    """
    found = RunFolder(folder.parent).find(f"{folder.name}/*/*.png", re.compile(re.escape(folder.name) + _NAME))
    paths = list(islice(found, MAX_READ + 1))
    if not paths:
        raise ValueError(f"{printable(folder)} holds no test images: train/vae.py and train/ldm.py write some")
    if len(paths) * spec.side**2 > MAX_PIXELS or len(paths) > MAX_READ:
        raise ValueError(
            f"{printable(folder)} holds more test images than are read: {MAX_READ:,} at most, of {MAX_PIXELS:,} pixels "
            "in all"
        )
    ordered = sorted((_label(path, spec), path.name, path) for path in paths)
    images = torch.stack([_read(path, spec) for *_, path in ordered])
    labels = torch.tensor([label for label, *_ in ordered])
    return Examples(pad(images, spec), labels, tuple(int(path.stem) for *_, path in ordered))


def _label(path: Path, spec: DatasetSpec) -> int:
    label = int(path.parent.name)
    if label >= max(1, spec.num_classes):
        raise ValueError(f"{printable(path)} is of class {label}: the dataset has {spec.num_classes}")
    return label


def _read(path: Path, spec: DatasetSpec) -> Tensor:
    pixels = read_picture(path, spec.channels, ("PNG",), MAX_PIXELS_EACH)
    if pixels.shape[1:] != (spec.side, spec.side):
        raise ValueError(
            f"{printable(path)} has {pixels.shape[2]} x {pixels.shape[1]} pixels, not {spec.side} x {spec.side}"
        )
    return pixels
