"""What is wrong with a model?"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.data import DatasetSpec, pad
from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.examination import examine, examine_stepwise
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.diagnosis.verdicts import Diagnosis
from ldm_explorer.explore.images import example_images
from ldm_explorer.files import CheckpointError, first_line
from ldm_explorer.image_folder import read_image_folder
from ldm_explorer.options import as_path
from ldm_explorer.run_folder import MARK
from ldm_explorer.shipped import find_checkpoint


def diagnose_checkpoint(checkpoint: Checkpoint) -> Iterator[Diagnosis]:
    """The diagnosis of a checkpoint of the library, one check more at a time; the last one is the whole.

    Raises `CheckpointError`.
    """
    examples = example_images(checkpoint)
    case = replace(open_case(checkpoint.folder), images=examples.images, image_labels=examples.labels)
    for diagnosis in examine_stepwise(case):
        yield replace(diagnosis, folder=checkpoint.name)


def when_written(checkpoint: Checkpoint) -> tuple[tuple[str, int], ...]:
    """The files of a checkpoint and when each was written, in ns. Raises `CheckpointError`."""
    mark = checkpoint.folder / MARK
    try:
        found = (path for path in checkpoint.folder.rglob("*") if mark not in path.parents)
        files = sorted(path for path in found if path.is_file())
        return tuple((str(path), path.stat().st_mtime_ns) for path in files)
    except OSError as error:
        raise CheckpointError(f"{checkpoint.folder} cannot be looked through: {first_line(error)}") from error


def diagnose_folder(folder: Path | str, images: Path | str | None = None) -> Diagnosis:
    """The diagnosis of any local folder of a diffusers model, which is only read.

    `images` is a folder of images, subfolders being classes; without it test images of a known dataset are taken, or
    those beside the run. What a check cannot run on is no error, its verdict says so. Raises `CheckpointError` for a
    folder that holds no model we can read, `DataError` for one without images.
    """
    folder = find_checkpoint(as_path(folder, "the folder of a model"))
    case = open_case(folder)
    if images is not None:
        pixels, labels = _images_in(as_path(images, "a folder of images"), case, _spec_of(folder))
        return examine(replace(case, images=pixels, image_labels=labels))
    try:
        examples = example_images(read_checkpoint(folder))
    except ValueError:  # not ours, or without test images
        return examine(case)
    fits = examples.images.shape[1:] == (case.image_channels, case.image_side, case.image_side)
    return examine(replace(case, images=examples.images, image_labels=examples.labels) if fits else case)


def _spec_of(folder: Path) -> DatasetSpec | None:
    """What is known of the images that a run of ours was trained on."""
    try:
        return read_checkpoint(folder).spec
    except ValueError:
        return None


def _images_in(folder: Path, case: Case, spec: DatasetSpec | None) -> tuple[Tensor, Tensor | None]:
    """Every image of a folder at the model's side, with labels where subfolders are the model's classes."""
    padding = spec if spec is not None and spec.model_side == case.image_side else None
    found = read_image_folder(folder.expanduser(), case.image_side if padding is None else padding.side)
    images = found.images if padding is None else pad(found.images, padding)
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
