"""One way to open a model, whoever trained it and wherever it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.data import DatasetSpec, pad
from ldm_explorer.examples import Examples
from ldm_explorer.files import CheckpointError
from ldm_explorer.hub import MAX_BYTES, fetch, is_hub_id, name_on_hub
from ldm_explorer.image_folder import list_folder
from ldm_explorer.model_images import spec_as_told
from ldm_explorer.options import as_path
from ldm_explorer.pictures.collection import read_pictures
from ldm_explorer.pictures.listing import DataError
from ldm_explorer.shipped import find_checkpoint

MAX_EXAMPLES = 200


def open_source(
    reference: str | Path,
    *,
    images: Path | str | None = None,
    dataset: str | None = None,
    max_bytes: int = MAX_BYTES,
    told: Callable[[str], None] | None = None,
) -> Checkpoint:
    """A model by its folder, or by its id on the Hugging Face Hub, `hf:owner/name` or `hf:owner/name@revision`.

    Runs of ours, what a diffusers pipeline saved (AutoencoderKL, UNet2DModel or
    DiTTransformer2DModel, and a scheduler), a diffusion
    model of pixels, or an autoencoder alone. `dataset` is the name of a registered dataset that it was trained on;
    `images` is a folder of images like those of its training, in subfolders that are named as the dataset's classes, or
    with a label's number. Without either, classes are numbers, and where nothing says so there is no null class.
    Weights are loaded when they are first asked for. `max_bytes` and `told` are those of `hub.fetch`. Raises
    `CheckpointError`, which says what it is and what is read.
    """
    checkpoint = read_checkpoint(folder_of(reference, max_bytes, told))
    if is_hub_id(reference):
        name = name_on_hub(str(reference))
        dataset_of_run = checkpoint.config.get("dataset", name) if checkpoint.model.is_ours else name
        checkpoint = replace(checkpoint, name=name, dataset=dataset_of_run)
    if dataset is not None:
        told_spec = spec_as_told(checkpoint.model, dataset)
        checkpoint = replace(checkpoint, dataset=dataset, told_spec=told_spec)
    return checkpoint if images is None else _with_images(checkpoint, Path(images))


def folder_of(reference: str | Path, max_bytes: int = MAX_BYTES, told: Callable[[str], None] | None = None) -> Path:
    """Where a model lies: the folder itself, a shipped one, or that of an id of the Hub in the cache.

    Raises `CheckpointError` for an id of which nothing can be had.
    """
    given = as_path(reference, "the folder of a model, or hf:owner/name")
    return fetch(str(given), max_bytes, told) if is_hub_id(given) else find_checkpoint(given)


def in_channels(images: Tensor, channels: int) -> Tensor:
    """`(N, C, S, S) uint8` of another number of channels as grey in each of so many."""
    if images.shape[1] == channels:
        return images
    return images.float().mean(1, keepdim=True).to(torch.uint8).expand(-1, channels, -1, -1)


def labels_of(folders: tuple[str, ...], class_names: tuple[str, ...]) -> list[int] | None:
    """The labels that subfolders stand for: by class names, however they are written, else by number.

    None where there are no subfolders, or which label one of them is is not known.
    """
    if (named := labels_by_name(folders, class_names)) is not None:
        return named
    numbers = [int(name) for name in folders if name.isdecimal() and int(name) < len(class_names)]
    return numbers if folders and len(numbers) == len(folders) else None


def labels_by_name(folders: tuple[str, ...], class_names: tuple[str, ...]) -> list[int] | None:
    """The labels of subfolders that all have the name of a class, however it is written; else None."""
    known = _written_otherwise(class_names)
    if not folders or any(_letters(name) not in known for name in folders):
        return None
    return [known[_letters(name)] for name in folders]


def _written_otherwise(class_names: tuple[str, ...]) -> dict[str, int]:
    """The label of each way to write a class: "T-shirt/top" is tshirt_top, T-Shirt or top, where no other class is."""
    ways = [(_letters(part), label) for label, name in enumerate(class_names) for part in name.split("/")]
    single = {way: label for way, label in ways if sum(way == other for other, _ in ways) == 1}
    return single | {_letters(name): label for label, name in enumerate(class_names)}


def _letters(name: str) -> str:
    """A name without what people write in other ways: case, spaces, underscores, hyphens and the like."""
    return "".join(character for character in name.casefold() if character.isalnum())


def _classes_told(labels: set[int], spec: DatasetSpec) -> int:
    """How many classes there are by labels that are numbers: one fewer than the network has where just its last one is
    never used, which then is its null class."""
    return len(labels) if labels == set(range(spec.num_classes - 1)) else spec.num_classes


def _with_images(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    spec = checkpoint.spec
    try:
        listing = list_folder(folder.expanduser())
        found = read_pictures(listing.at_most(MAX_EXAMPLES), spec.side)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    numbers = labels_of(listing.class_names, spec.class_names)
    labels = None if numbers is None else torch.tensor(numbers)[found.labels]
    if numbers is not None and checkpoint.known_spec is None and not checkpoint.model.is_transformer:
        told = {numbers[label] for label in listing.labels}
        spec = replace(spec, class_names=spec.class_names[: _classes_told(told, spec)])
    images = in_channels(pad(found.images, spec), spec.channels)
    examples = Examples(images, labels, tuple(range(len(images))))
    return replace(checkpoint, told_spec=spec, told_examples=examples)
