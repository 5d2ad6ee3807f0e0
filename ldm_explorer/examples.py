"""A few labelled test images beside a checkpoint, so that the app needs no dataset: `<label>/<index>.png`."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ldm_explorer.data import DatasetSpec, ImageSet, crop, pad
from ldm_explorer.image_folder import read_picture
from ldm_explorer.run_folder import RunFolder

PER_CLASS = 10
MAX_EXAMPLES = 200


@dataclass(frozen=True, eq=False)
class Examples:
    """Padded images `(N, C, S, S) uint8`, labels `(N,)` and their indices in the test split."""

    images: Tensor
    labels: Tensor
    test_indices: tuple[int, ...]


def write_examples(run_dir: Path, test: ImageSet, spec: DatasetSpec) -> None:
    """Write the `images` of a run."""
    with RunFolder(run_dir).replacing("images") as folder:
        draw_examples(folder, test, spec)


def draw_examples(folder: Path, test: ImageSet, spec: DatasetSpec) -> None:
    """Fill a new folder with the first ten test images of each class, fewer where there are many classes."""
    images = crop(test.images, spec)
    labels = test.labels.unique().tolist()
    per_class = max(1, min(PER_CLASS, MAX_EXAMPLES // len(labels)))
    for label in labels:
        (folder / str(label)).mkdir(parents=True)
        for index in (test.labels == label).nonzero().flatten().tolist()[:per_class]:
            to_pil_image(images[index]).save(folder / str(label) / f"{index:05d}.png", optimize=True)


def read_examples(folder: Path, spec: DatasetSpec) -> Examples:
    """Raises `ValueError` when there are none, or one is broken or of another size."""
    paths = sorted(folder.glob("*/*.png"), key=lambda path: (int(path.parent.name), path.name))
    if not paths:
        raise ValueError(f"{folder} holds no test images: train/vae.py and train/ldm.py write some")
    images = torch.stack([_read(path, spec) for path in paths])
    labels = torch.tensor([int(path.parent.name) for path in paths])
    return Examples(pad(images, spec), labels, tuple(int(path.stem) for path in paths))


def _read(path: Path, spec: DatasetSpec) -> Tensor:
    pixels = read_picture(path, spec.channels)
    if pixels.shape[1:] != (spec.side, spec.side):
        raise ValueError(f"{path} has {pixels.shape[2]} x {pixels.shape[1]} pixels, not {spec.side} x {spec.side}")
    return pixels
