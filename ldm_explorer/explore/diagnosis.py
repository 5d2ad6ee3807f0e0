"""What is wrong with a model?"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import DatasetSpec, pad
from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.examination import examine, examine_stepwise
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.diagnosis.verdicts import Diagnosis
from ldm_explorer.examples import Examples
from ldm_explorer.explore.images import example_images
from ldm_explorer.explore.opened import MAX_FILES
from ldm_explorer.files import CheckpointError, first_line
from ldm_explorer.image_folder import read_some_images
from ldm_explorer.options import as_path
from ldm_explorer.run_folder import MARK
from ldm_explorer.sources import folder_of, in_channels, labels_by_name, open_source

_log = logging.getLogger(__name__)


def diagnose_checkpoint(checkpoint: Checkpoint) -> Iterator[Diagnosis]:
    """The diagnosis of a checkpoint of the library, one check more at a time; the last one is the whole.

    Raises `CheckpointError`.
    """
    for diagnosis in examine_stepwise(case_of(checkpoint)):
        yield replace(diagnosis, folder=checkpoint.name)


def case_of(checkpoint: Checkpoint) -> Case:
    """A checkpoint of the library with its test images, where there are any. Raises `CheckpointError`."""
    case = open_case(checkpoint.folder, spec=_known_spec(checkpoint))
    try:
        return _with_examples(case, example_images(checkpoint))
    except ValueError:
        return case


def _known_spec(checkpoint: Checkpoint) -> DatasetSpec | None:
    """What is known of its images; nothing of those of a dataset that nobody knows any more."""
    try:
        return checkpoint.known_spec
    except ValueError:
        return None


def _with_examples(case: Case, examples: Examples) -> Case:
    """The same with images, where they are of the model's size."""
    fits = examples.images.shape[1:] == (case.image_channels, case.image_side, case.image_side)
    return replace(case, images=examples.images, image_labels=examples.labels) if fits else case


def when_written(checkpoint: Checkpoint) -> tuple[tuple[str, int], ...]:
    """The files of a checkpoint and when each was written, in ns; of very many the first. Raises `CheckpointError`."""
    mark = checkpoint.folder / MARK
    try:
        found = islice((path for path in checkpoint.folder.rglob("*") if mark not in path.parents), MAX_FILES)
        files = sorted(path for path in found if path.is_file())
        return tuple((str(path), path.stat().st_mtime_ns) for path in files)
    except OSError as error:
        raise CheckpointError(f"{checkpoint.folder} cannot be looked through: {first_line(error)}") from error


def diagnose_folder(folder: Path | str, images: Path | str | None = None, dataset: str | None = None) -> Diagnosis:
    """The diagnosis of any folder of a diffusers model, which is only read, or of an id of the Hub, `hf:owner/name`.

    `images` is a folder of images, subfolders being classes; without it test images of a known dataset are taken, or
    those beside the run. `dataset` is the name of the one that it was trained on. What a check cannot run on is no
    error, its verdict says so. Raises `CheckpointError` for a folder that holds no model we can read, `DataError` for
    one without images.
    """
    folder = folder_of(as_path(folder, "the folder of a model"))
    checkpoint = _opened(folder, dataset)
    spec = None if checkpoint is None else _known_spec(checkpoint)
    case = open_case(folder, spec=spec)
    if images is not None:
        return examine(_with_images(case, as_path(images, "a folder of images"), spec))
    if checkpoint is None:
        return examine(case)
    try:
        examples = example_images(checkpoint)
    except ValueError:  # not ours, or without test images
        return examine(case)
    return examine(_with_examples(case, examples))


def _opened(folder: Path, dataset: str | None) -> Checkpoint | None:
    """The model as the app shows it; None for a folder that can be examined but is not whole.

    Raises `CheckpointError` for a dataset that is not.
    """
    try:
        return open_source(folder, dataset=dataset)
    except ValueError:
        if dataset is not None:
            raise
        return None


def _with_images(case: Case, folder: Path, spec: DatasetSpec | None) -> Case:
    """Every image of a folder at the model's side, with labels where it is known which ones its subfolders are."""
    padding = spec if spec is not None and spec.model_side == case.image_side else None
    found = read_some_images(folder.expanduser(), case.image_side if padding is None else padding.side)
    _log.info(found.summary)
    images = found.images if padding is None else pad(found.images, padding)
    images = in_channels(images, case.image_channels)
    numbers = labels_of(found.class_names, () if spec is None else spec.class_names)
    labels = None if numbers is None else torch.tensor(numbers)[found.labels]
    return replace(case, images=images, image_labels=labels, image_folders=found.class_names)


def labels_of(folders: tuple[str, ...], class_names: tuple[str, ...]) -> list[int] | None:
    """The labels that subfolders stand for: by class names, however they are written, else by any number.

    None where there are no subfolders, or which label one of them is is not known.
    """
    if (named := labels_by_name(folders, class_names)) is not None:
        return named
    return [int(name) for name in folders] if folders and all(name.isdecimal() for name in folders) else None
