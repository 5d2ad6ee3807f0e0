"""What the tabs share: the choices made once, errors shown as one sentence, and the queue of the models."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr
from PIL import Image

from ldm_explorer.data import dataset_spec
from ldm_explorer.explore.images import ImageToExplore, shipped_image, uploaded_image
from ldm_explorer.explore.library import Library

MODEL_QUEUE = {"concurrency_id": "model", "concurrency_limit": 1}
MAX_SEED = 2**31 - 1
IMAGES_PER_CLASS = 10


@dataclass(frozen=True)
class SharedChoices:
    """The components above the tabs, which hold for every tab."""

    checkpoint: gr.Dropdown
    class_name: gr.Dropdown
    number: gr.Slider
    upload: gr.Image
    seed: gr.Number

    @property
    def image(self) -> list[gr.components.Component]:
        return [self.checkpoint, self.class_name, self.number, self.upload]


def chosen_image(
    library: Library, checkpoint: str, class_name: str, number: float, upload: Image.Image | None
) -> ImageToExplore:
    """The uploaded image, or else the shipped test image. Raises `ValueError` for what is not there."""
    dataset = library.get(checkpoint).dataset
    if upload is not None:
        return uploaded_image(upload, dataset, library.classifiers.get(dataset))
    return shipped_image(dataset, dataset_spec(dataset).class_names.index(class_name), int(number) - 1)


def bind(handler: Callable, library: Library) -> Callable:
    """A handler with the library filled in, whose refusals (`ValueError`) become one sentence in the app."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def bound(*inputs):
            try:
                yield from handler(library, *inputs)
            except ValueError as error:
                raise gr.Error(str(error), print_exception=False) from error
    else:

        @functools.wraps(handler)
        def bound(*inputs):
            try:
                return handler(library, *inputs)
            except ValueError as error:
                raise gr.Error(str(error), print_exception=False) from error

    parameters = list(inspect.signature(handler).parameters.values())[1:]
    bound.__signature__ = inspect.Signature(parameters)
    del bound.__wrapped__
    return bound


def on_gpu(handler: Callable) -> Callable:
    """`spaces.GPU` on a ZeroGPU Space, where at least one function must ask for it; nothing elsewhere."""
    try:
        import spaces
    except ImportError:
        return handler
    return spaces.GPU(handler)
