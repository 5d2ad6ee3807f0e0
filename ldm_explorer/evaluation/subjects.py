"""Folders of pictures that any model made, to be measured as the samples of a checkpoint are."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldm_explorer.data import DatasetSpec, find_dataset
from ldm_explorer.image_folder import holds_pictures, read_samples
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import holds_run


@dataclass(frozen=True, eq=False)
class SampleFolder:
    """Pictures of whatever model made them, to be measured against a dataset."""

    folder: Path
    dataset: str
    spec: DatasetSpec
    images: Tensor  # (N, C, side, side) uint8
    labels: Tensor | None  # (N,)

    @property
    def name(self) -> str:
        return self.folder.name

    @classmethod
    def read(cls, folder: Path, dataset: str, image_side: int | None) -> "SampleFolder":
        """Raises `DataError` for what is no picture of the dataset's size, `ValueError` as `labels_of` does."""
        spec = find_dataset(dataset, image_side).spec
        images, names = read_samples(folder, spec.side, spec.channels)
        return cls(folder, dataset, spec, images, labels_of(folder, names, spec))


def is_samples(folder: Path) -> bool:
    """Whether a folder holds pictures, in it or in its subfolders, and is no run nor a folder of runs."""
    places = [folder, *(child for child in folder.iterdir() if child.is_dir())] if folder.is_dir() else []
    return not any(holds_run(RunFolder(place)) for place in places) and any(map(holds_pictures, places))


def labels_of(folder: Path, names: list[str], spec: DatasetSpec) -> Tensor | None:
    """`(N,)` by the subfolders of samples, None where none is a class. Raises `ValueError` where only some are."""
    others = sorted({name or "no subfolder" for name in names} - set(spec.class_names))
    if not others:
        return torch.tensor([spec.label_of(name) for name in names])
    if set(names) & set(spec.class_names):
        raise ValueError(
            f"{folder} holds samples of classes and others ({', '.join(others)}): give every sample a subfolder named "
            f"as its class ({', '.join(spec.class_names)}), or none"
        )
    return None
