"""The image that was chosen: a test image, or the visitor's own."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from gradio.utils import get_upload_folder

from ldm_explorer.explore.images import (
    ANY_CLASS,
    ImageToExplore,
    class_labels,
    example_image,
    example_images,
    uploaded_image,
)
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.uploads import read_upload
from ldm_explorer.ui.server.inputs import is_upload


class ImageChoice(Protocol):
    """The settings of a room that shows an image."""

    checkpoint: str
    class_name: str
    number: int
    upload: str | None


def chosen_image(library: Library, chosen: ImageChoice) -> ImageToExplore:
    """The uploaded image, or else a test image. Raises `ValueError` for what is not there."""
    checkpoint = library.get(chosen.checkpoint)
    if chosen.upload:
        if not is_upload(chosen.upload, Path(get_upload_folder())):
            raise ValueError("your image is no file that was uploaded here: give it again")
        image = uploaded_image(read_upload(chosen.upload), checkpoint, library.classifiers.get(checkpoint.dataset))
        return replace(image, notes=("Your image is used, and is in no link.", *image.notes))
    return example_image(checkpoint, class_of(chosen.class_name), chosen.number - 1)


def class_of(class_name: str) -> str | None:
    """The class, None where the images have none."""
    return None if class_name == ANY_CLASS else class_name


def default_image(checkpoint) -> tuple[str, int]:
    """The class and the number of the image that the page opens with, also where there is none."""
    spec = checkpoint.spec
    try:
        labels = class_labels(example_images(checkpoint), spec)
    except ValueError:
        labels = None
    return (ANY_CLASS if labels is None else spec.class_names[int(labels.max())]), 1
