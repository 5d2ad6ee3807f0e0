"""What a model's images are: their size by its networks, their classes by who trained it or by who opens it."""

from dataclasses import replace

from ldm_explorer.data import DATASETS, DatasetSpec
from ldm_explorer.files import CheckpointError, printable, shown
from ldm_explorer.model_parts import ModelFolder

MAX_NUMBERED = 1000


def fitting_spec(model: ModelFolder, dataset: str) -> DatasetSpec | None:
    """What is known of a registered dataset, None where the model's images or classes are not of it."""
    if dataset not in DATASETS:
        return None
    spec, (channels, side) = DATASETS[dataset].spec, model.image_shape
    if spec.channels != channels or side not in (spec.side, spec.model_side):
        return None
    if model.num_embeddings and _classes_among(model, spec) is None:
        return None
    return replace(spec, model_side=side)


def numbered_spec(model: ModelFolder) -> DatasetSpec:
    """Of images of which nothing else is known: their classes are numbers. Raises `CheckpointError` for no pictures."""
    channels, side = model.image_shape
    names = tuple(map(str, range(min(num_classes(model, None), MAX_NUMBERED))))
    return DatasetSpec(channels, side, side, names, background=0)


def spec_as_told(model: ModelFolder, dataset: str) -> DatasetSpec:
    """That of the dataset that somebody says a model is of. Raises `CheckpointError` where it cannot be."""
    if dataset not in DATASETS:
        raise CheckpointError(f"unknown dataset {shown(dataset)}: choose one of {', '.join(DATASETS)}, or give images")
    spec = fitting_spec(model, dataset)
    if spec is None:
        known, (channels, side) = DATASETS[dataset].spec, model.image_shape
        classes = f" and {model.num_embeddings} labels" if model.num_embeddings else ""
        raise CheckpointError(
            f"{printable(model.folder)} has images of {channels} channel(s) and side {side}{classes}, {dataset} of "
            f"{known.channels} and {known.side} with {known.num_classes} classes: it was trained on something else"
        )
    return spec


def num_classes(model: ModelFolder, spec: DatasetSpec | None) -> int:
    """How many of the labels that a denoiser takes are classes; one more is its null class, "no label".

    Our runs and transformers have a null class. Elsewhere it is known only by the classes of the images, `spec`; where
    these are not known, every label is a class.
    """
    if not model.num_embeddings or model.knows_null_class:
        return max(0, model.num_embeddings - 1)
    known = None if spec is None else _classes_among(model, spec)
    return model.num_embeddings if known is None else known


def _classes_among(model: ModelFolder, spec: DatasetSpec) -> int | None:
    """The classes of the images, where the network has as many labels or one more; else None."""
    fitting = spec.num_classes + 1 if model.is_transformer else spec.num_classes, spec.num_classes + 1
    return spec.num_classes if model.num_embeddings in fitting else None
