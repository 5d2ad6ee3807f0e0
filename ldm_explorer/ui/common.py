"""What the tabs share: the choices made once, errors shown as one sentence, and the queue of the models."""

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import gradio as gr
from gradio.context import LocalContext

from ldm_explorer.explore.images import ImageToExplore, example_image, example_images, uploaded_image
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.uploads import read_upload
from ldm_explorer.ui.html import escaped
from ldm_explorer.ui.server.refusals import UNFORESEEN
from ldm_explorer.ui.server.turns import TURNS, Job, Stopped
from ldm_explorer.ui.server.work import LIGHT, Work

MAX_SEED = 2**31 - 1
ANY_CLASS = "any"
_NO_MORE = object()
_log = logging.getLogger(__name__)


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
    library: Library, checkpoint: str, class_name: str, number: float, upload: str | None
) -> ImageToExplore:
    """The uploaded image, by its path, or else a test image. Raises `ValueError` for what is not there."""
    chosen = library.get(checkpoint)
    if upload is not None:
        image = uploaded_image(read_upload(upload), chosen, library.classifiers.get(chosen.dataset))
        return replace(image, notes=("Your image is used; clear it to return to the test images.", *image.notes))
    return example_image(chosen, known_class(library, checkpoint, class_name), int(number) - 1)


def class_choices(library: Library, checkpoint: str) -> list[str]:
    """The classes of a checkpoint's images."""
    return list(library.get(checkpoint).spec.class_names) or [ANY_CLASS]


def example_classes(library: Library, checkpoint: str) -> list[str]:
    """The classes that a checkpoint has test images of."""
    present = example_images(library.get(checkpoint)).labels.unique().tolist()
    return [name for label, name in enumerate(class_choices(library, checkpoint)) if label in present]


def images_per_class(library: Library, checkpoint: str) -> int:
    """How many test images can be chosen of each class; 2 at least, for sliders need a range."""
    return max(2, int(example_images(library.get(checkpoint)).labels.unique(return_counts=True)[1].min()))


def offer_images(library: Library, checkpoint: str, class_name: str, number: float):
    """The test images to choose from, where another checkpoint has other ones."""
    choices, per_class = example_classes(library, checkpoint), images_per_class(library, checkpoint)
    chosen = class_name if class_name in choices else choices[-1]
    return gr.update(choices=choices, value=chosen), gr.update(maximum=per_class, value=min(int(number), per_class))


def known_class(library: Library, checkpoint: str, class_name: str) -> str | None:
    """The class, or None for one of another checkpoint's images: so it stands just after another one was chosen."""
    own = library.get(checkpoint).spec.class_names
    others = {name for other in library.checkpoints.values() for name in other.spec.class_names}
    return None if class_name not in own and class_name in others | {ANY_CLASS} else class_name


@contextmanager
def one_sentence() -> Iterator[None]:
    """Refusals (`ValueError`) are shown as they are; what nobody foresaw is logged and shown as one plain sentence."""
    try:
        yield
    except gr.Error:
        raise
    except Stopped:
        raise gr.Error("stopped", visible=False, print_exception=False) from None
    except ValueError as error:
        raise gr.Error(escaped(str(error)), print_exception=False) from error
    except Exception as error:
        _log.exception("a handler failed")
        raise gr.Error(UNFORESEEN, print_exception=False) from error


class Handler(Protocol):
    """A function that gradio calls; its work says in which queue."""

    work: Work

    def __call__(self, *inputs) -> Any: ...


def bind(handler: Callable, library: Library, work: Work = LIGHT) -> Handler:
    """A handler with the library filled in and its errors in one sentence; a field left empty is refused.

    It computes when it is its turn, and one that streams gives its turn up after each step.
    """
    signature = inspect.signature(handler)
    parameters = list(signature.parameters.values())[1:]

    def check(inputs: tuple) -> None:
        for parameter, value in zip(parameters, inputs, strict=False):
            if value is None and parameter.name != "upload":
                raise ValueError(f"{parameter.name.replace('_', ' ')} is empty: give a value")

    def stream(*inputs):
        job = Job(LocalContext.event_id.get(None))
        with one_sentence(), closing(handler(library, *inputs)) as steps:
            check(inputs)
            while True:
                try:
                    with TURNS.turn(job):
                        step = next(steps, _NO_MORE)
                except Stopped:
                    return
                if step is _NO_MORE:
                    return
                yield step

    def answer(*inputs):
        with one_sentence(), TURNS.turn(Job(LocalContext.event_id.get(None))):
            check(inputs)
            return handler(library, *inputs)

    bound: Any = functools.update_wrapper(stream if inspect.isgeneratorfunction(handler) else answer, handler)
    del bound.__wrapped__
    bound.__signature__ = signature.replace(parameters=parameters)
    return _of_work(bound, work)


def _of_work(function: Any, work: Work) -> Handler:
    function.work = work
    return function


def opening(handler: Callable, inputs: list[gr.components.Component]):
    """What a bound handler answers to the values that its inputs open with."""
    return handler(*[component.value for component in inputs])


def answer_changes(handler: Callable, inputs: list, outputs, api_name: str) -> None:
    """Call a bound handler when any of its inputs changes, as a documented endpoint; the last change wins."""
    gr.on(
        [component.change for component in inputs],
        handler,
        inputs,
        outputs,
        api_name=api_name,
        api_description=handler.__doc__,
        trigger_mode="always_last",
        show_progress="minimal",
    )


def answer_when_opened(tab: gr.Tab, handler: Handler, inputs: list, output: gr.HTML) -> None:
    """Let a bound handler fill an output when its tab is first opened: what would keep the app from starting soon."""
    opened = gr.State(False)

    def answer(was_opened: bool, *values):
        if was_opened:
            yield gr.skip(), gr.skip()
            return
        answered = handler(*values)
        for shown in answered if inspect.isgenerator(answered) else [answered]:
            yield shown, True

    tab.select(
        _of_work(answer, handler.work),
        [opened, *inputs],
        [output, opened],
        api_visibility="private",
        show_progress="minimal",
    )


def on_gpu(handler: Callable) -> Callable:
    """`spaces.GPU` on a ZeroGPU Space, where at least one function must ask for it; nothing elsewhere."""
    try:
        import spaces
    except ImportError:
        return handler
    return spaces.GPU(handler)
