"""Images to look at: the shipped test images, and uploads made to look like them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import DATASETS, DatasetSpec, crop, pad, to_model
from ldm_explorer.evaluation.features import FeatureNet, extract_features
from ldm_explorer.examples import SHIPPED_IMAGES, Examples, example_file, read_examples
from ldm_explorer.files import CheckpointError, printable
from ldm_explorer.pictures.picture import brightest, deep_values, depth_of, has_transparency, on_white, to_8_bits
from ldm_explorer.run_layout import EXAMPLES

ANY_CLASS = "any"
"""Stands for the class where images have none."""


@dataclass(frozen=True)
class ImageToExplore:
    pixels: Tensor  # (1, C, S, S) float32 in [-1, 1], padded to the model's side
    caption: str
    notes: tuple[str, ...] = ()  # what was done to an upload, one sentence each
    path: Path | None = None  # its file, None for an upload


def example_images(checkpoint: Checkpoint) -> Examples:
    """Those that it was opened with, else test images of its dataset. Raises `ValueError` when there are none."""
    if checkpoint.told_examples is not None:
        return checkpoint.told_examples
    folder = _examples_folder(checkpoint)
    if checkpoint.known_spec is None and not folder.is_dir():
        raise CheckpointError(
            f"no images like those of {printable(checkpoint.name)} are known: upload one, or open it with the name of "
            "its dataset or a folder of images"
        )
    return _read_once(folder, checkpoint.spec)


def class_labels(examples: Examples, spec: DatasetSpec) -> Tensor | None:
    """The labels `(N,)` of the examples, None for images of no classes or of classes that are not known."""
    return examples.labels if spec.num_classes else None


def _examples_folder(checkpoint: Checkpoint) -> Path:
    own, shipped = checkpoint.folder / EXAMPLES, SHIPPED_IMAGES / checkpoint.dataset
    known = checkpoint.dataset in DATASETS and shipped.is_dir()  # a name from a file may be any path
    return shipped if known else own


_read_once = cache(read_examples)


def first_of_class(examples: Examples) -> list[int]:
    """The index of the first example of every label; of all where labels are not known."""
    if examples.labels is None:
        return list(range(len(examples.images)))
    return [int((examples.labels == label).nonzero()[0]) for label in examples.labels.unique().tolist()]


def example_image(checkpoint: Checkpoint, class_name: str | None, number: int) -> ImageToExplore:
    """The `number`-th example of a class, from 0; of any class when None. Raises `ValueError` when there is none."""
    examples, spec = example_images(checkpoint), checkpoint.spec
    labels, indices = class_labels(examples, spec), list(range(len(examples.images)))
    if class_name is not None:
        label = spec.label_of(class_name)
        indices = [] if labels is None else (labels == label).nonzero().flatten().tolist()
    if not 0 <= number < len(indices):
        raise ValueError(f"image {number + 1} of {class_name or 'any class'}: there are {len(indices)}")
    index = indices[number]
    is_told = checkpoint.told_examples is not None
    caption = f"image {number + 1} of yours" if is_told else f"test image {examples.test_indices[index]}"
    pixels = to_model(examples.images[index : index + 1])
    if labels is not None:
        caption = f"{spec.class_names[int(labels[index])]}, {caption}"
    if is_told or examples.labels is None:
        return ImageToExplore(pixels, caption)
    file = example_file(examples.test_indices[index])
    path = _examples_folder(checkpoint) / str(int(examples.labels[index])) / file
    return ImageToExplore(pixels, caption, path=path)


def uploaded_image(upload: Image.Image, checkpoint: Checkpoint, classifier: FeatureNet | None) -> ImageToExplore:
    """Make any picture, as `read_upload` gives it, look like the dataset: opaque, square, its side; grey on dark where
    it is. Raises `ValueError` for a picture without content."""
    spec, notes, image = checkpoint.spec, [], upload
    if has_transparency(image):
        image = on_white(image)
        notes.append("Transparent parts were filled with white.")
    if (values := deep_values(image)) is not None:
        if (depth := depth_of(brightest(values))) < 16:
            notes.append(f"Its brightest value in 16 bits is {brightest(values):,}: it was read as {depth} bits.")
        image = to_8_bits(image)
    if spec.channels == 1 and image.mode != "L":
        notes.append("It was made grey.")
    image = image.convert("L" if spec.channels == 1 else "RGB")
    border = _border_level(image)
    if spec.channels == 1 and border > 127:
        image, border = ImageOps.invert(image), 255 - border
        notes.append("Its background is light, so it was inverted.")
    if image.width != image.height:
        side = max(image.size)
        image = ImageOps.pad(image, (side, side), color=int(border) if spec.channels == 1 else (int(border),) * 3)
        notes.append("It was padded to a square.")
    if image.size != (spec.side, spec.side):
        image = image.resize(
            (spec.side, spec.side), Image.Resampling.BOX if min(image.size) > 280 else Image.Resampling.LANCZOS
        )
        notes.append(f"It was resized to {spec.side} x {spec.side} pixels.")
    pixels = pil_to_tensor(image)[None]
    if int(pixels.max()) - int(pixels.min()) < 8:
        raise ValueError("the image is one flat colour: give one with something on it")
    if classifier is not None and not looks_familiar(pixels, checkpoint, classifier):
        notes.append("It does not look like the images the models were trained on.")
    return ImageToExplore(to_model(pad(pixels, spec)), "Your image", tuple(notes))


def _border_level(image: Image.Image) -> float:
    grey = np.asarray(image.convert("L"))
    return float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))


def looks_familiar(pixels: Tensor, checkpoint: Checkpoint, classifier: FeatureNet) -> bool:
    """Whether `(1, C, side, side) uint8` lies, in features, as near to an example as these lie to one another.

    The bar is the 95th percentile of the distances of examples to their nearest neighbour among the others.
    """
    reference = _example_features(example_images(checkpoint), checkpoint.spec, classifier)
    between = torch.cdist(reference, reference).fill_diagonal_(torch.inf).min(1).values
    distance = torch.cdist(extract_features(classifier, pixels), reference).min()
    return bool(distance <= between.quantile(0.95))


@cache
def _example_features(examples: Examples, spec: DatasetSpec, classifier: FeatureNet) -> Tensor:
    return extract_features(classifier, crop(examples.images, spec))
