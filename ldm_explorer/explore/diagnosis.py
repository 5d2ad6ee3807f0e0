"""What is wrong with a model?"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint, CheckpointError, read_spec
from ldm_explorer.data import DatasetSpec, dataset_spec, pad
from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.examination import examine
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.diagnosis.verdicts import Diagnosis
from ldm_explorer.examples import read_examples
from ldm_explorer.explore.images import SHIPPED_IMAGES
from ldm_explorer.image_folder import read_image_folder


@cache
def diagnose_checkpoint(checkpoint: Checkpoint) -> Diagnosis:
    """The diagnosis of a checkpoint of the library, made once. Raises `CheckpointError`."""
    return replace(diagnose_folder(checkpoint.folder), folder=checkpoint.name)


def diagnose_folder(folder: Path, images: Path | None = None) -> Diagnosis:
    """The diagnosis of any local folder of a diffusers model.

    `images` is a folder of images, subfolders being classes; without it test images of a known dataset are taken, or
    those beside the run. Raises `CheckpointError` for a folder that holds no model we can read, `DataError` for one
    without images.
    """
    case = open_case(folder)
    spec = _spec_of(case)
    chosen = _own_examples(case, spec) if images is None else _images_in(images, case, spec)
    if chosen is not None:
        case = replace(case, images=chosen[0], image_labels=chosen[1])
    return examine(case)


def _spec_of(case: Case) -> DatasetSpec | None:
    """What is known of the images that the model was trained on."""
    try:
        return read_spec(case.folder) or dataset_spec(case.config.get("dataset", ""))
    except CheckpointError:
        raise
    except ValueError:
        return None


def _own_examples(case: Case, spec: DatasetSpec | None) -> tuple[Tensor, Tensor] | None:
    """Shipped test images of its dataset, or those beside the run, if they fit the model."""
    if spec is None or (spec.channels, spec.model_side) != (case.image_channels, case.image_side):
        return None
    shipped = SHIPPED_IMAGES / case.config.get("dataset", "")
    try:
        examples = read_examples(shipped if shipped.is_dir() else case.folder / "images", spec)
    except ValueError:
        return None
    return examples.images, examples.labels


def _images_in(folder: Path, case: Case, spec: DatasetSpec | None) -> tuple[Tensor, Tensor | None]:
    """Every image of a folder at the model's side, with labels where subfolders are the model's classes."""
    padded = spec is not None and spec.model_side == case.image_side
    found = read_image_folder(folder.expanduser(), spec.side if padded else case.image_side)
    images = pad(found.images, spec) if padded else found.images
    if images.shape[1] != case.image_channels:
        images = images.float().mean(1, keepdim=True).to(torch.uint8).expand(-1, case.image_channels, -1, -1)
    numbers = _class_numbers(found.class_names, spec)
    return images, None if numbers is None else torch.tensor(numbers)[found.labels]


def _class_numbers(names: tuple[str, ...], spec: DatasetSpec | None) -> list[int] | None:
    """The labels that subfolders stand for: class names, numbers, or in order; None without subfolders."""
    if not names:
        return None
    if spec is not None and set(names) <= set(spec.class_names):
        return [spec.label_of(name) for name in names]
    return [int(name) for name in names] if all(name.isdecimal() for name in names) else list(range(len(names)))
