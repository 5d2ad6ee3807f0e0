"""The dialog that opens a folder or a Hub id: from then on it is a checkpoint like any other."""

import base64
import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import DATASETS
from ldm_explorer.explore.checkpoint_words import in_a_line
from ldm_explorer.explore.images import ANY_CLASS
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.opened import HUB, MAX_BYTES_EACH, MAX_REFERENCE, Reference
from ldm_explorer.files import first_line
from ldm_explorer.hub import MAX_BYTES
from ldm_explorer.sources import open_source
from ldm_explorer.ui.admission import check_client
from ldm_explorer.ui.answers import one_sentence
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.page_script import once_loaded
from ldm_explorer.ui.server.turns import Job, Stopped
from ldm_explorer.ui.server.work import OPENING
from ldm_explorer.ui.thumbnails import image_set

LOOK_SECONDS = 0.3
WAITS = "Another model is being opened: this one comes next."
_one_at_a_time = threading.Lock()
_numbers = itertools.count()
"""No two answers are the same: the page would not be told of the second."""


def build_button() -> None:
    """What shows the dialog."""
    button = gr.Button("Open a folder or a Hub id …", elem_id="ldm-open", size="sm")
    button.click(None, None, None, js="() => ldm.opener.show()", api_visibility="private")


def build_dialog(library: Library) -> None:
    """The dialog, and what the page's script presses when a reference is to be opened."""
    asked = gr.Textbox("", visible="hidden", label="Folder or Hub id", max_length=MAX_REFERENCE + 100)
    answer = gr.HTML(
        None,
        html_template=_dialog(library),
        js_on_load=once_loaded("ldm.open_models(element, props, watch)"),
        padding=False,
    )
    begin = gr.Button("Begin", visible="hidden", elem_id="ldm-open-begin")
    options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    event = begin.click(
        opening(library), asked, answer, js="() => ldm.opener.asked()", trigger_mode="multiple", **options
    )
    event.failure(None, None, None, js="() => ldm.opener.failed()", **options)


def _dialog(library: Library) -> Markup:
    where, example = "A folder of this machine, or", "/home/you/model"
    if not library.may_open.own:
        where, example = "A model,", f"{HUB}owner/name"
    datasets = join(html('<option value="{}">{}</option>', name, name) for name in DATASETS)
    images = html('<label>or a folder of images like them <input name="images" maxlength="200"></label>')
    return html(
        '<dialog class="ldm-opener" aria-labelledby="ldm-opener-title"><form>'
        '<h2 id="ldm-opener-title">Open a model</h2>'
        "<label>{} <code>{}owner/name</code> of the Hugging Face Hub: a diffusers UNet2DModel "
        "or DiTTransformer2DModel, AutoencoderKL, or both."
        '<input name="source" required maxlength="{}" placeholder="{}" autocomplete="off" spellcheck="false"></label>'
        "<details><summary>What its images are, where you know</summary>"
        '<label>A dataset <select name="dataset"><option value="">not known</option>{}</select></label>{}'
        "<p>With them more checks run, and every room has images to show.</p></details>"
        '<p role="status"></p><div><button type="submit">Open and examine</button>'
        '<button type="button">Close</button></div></form></dialog>',
        where,
        HUB,
        MAX_REFERENCE,
        example,
        datasets,
        images if library.may_open.own else "",
    )


def opening(library: Library) -> Callable[[str], Iterator[dict[str, Any]]]:
    """What Gradio calls with a reference, the name of one that is open, or "" where that has to end: streams how far it
    is, and in the end what the page has to know of the checkpoint, or in one sentence why it is none."""

    def opened(text: str) -> Iterator[dict[str, Any]]:
        with one_sentence():
            job = Job.of(LocalContext.event_id.get(None))
            try:
                if not text:
                    yield {}
                    return
                text_known = library.opened.reference(text) or text
                is_own = check_client(library, text_known)  # before anything of this machine is looked at
                reference = Reference.read(text_known)
                for came in _when_it_is_its_turn(lambda told: _open(library, reference, is_own, told), job):
                    yield {"asked": text, "number": next(_numbers)} | came
            except ValueError as error:
                yield {"asked": text, "number": next(_numbers), "refused": f"{first_line(error).removesuffix('.')}."}

    handler: Any = opened
    handler.work, handler.supersedes = OPENING, True
    return handler


def _open(library: Library, reference: Reference, is_own: bool, told: Callable[[str], None]) -> dict[str, Any]:
    """Open a model; of the Hub one of those that visitors may have fetched, where who asks sits elsewhere."""
    if not is_own:
        library.opened.count_visitors(reference.source)
    found = open_source(
        reference.source,
        images=reference.images,
        dataset=reference.dataset,
        max_bytes=MAX_BYTES if is_own else MAX_BYTES_EACH,
        told=told,
    )
    kept = library.opened.add(reference.text, found, reference.name, library.checkpoints)
    return {"reference": reference.text, "label": _label(kept), "images": images_of(kept)}


def _label(checkpoint: Checkpoint) -> str:
    """In the list of checkpoints; a name alone where its files do not say more."""
    try:
        return in_a_line(checkpoint)
    except ValueError:
        return checkpoint.name


def _when_it_is_its_turn(work: Callable[[Callable[[str], None]], dict[str, Any]], job: Job) -> Iterator[dict[str, Any]]:
    """One model at a time is opened: what is `told` of it, and last what comes of it. Ends where the job is stopped."""
    while not _one_at_a_time.acquire(timeout=LOOK_SECONDS):
        if job.stopped:
            raise Stopped
        yield {"told": WAITS}
    said: queue.SimpleQueue = queue.SimpleQueue()

    def tell(text: str) -> None:
        """Called by the thread that works, which ends here when nobody wants it any more."""
        if job.stopped:
            raise Stopped
        said.put({"told": text})

    def run() -> None:
        try:
            said.put(work(tell))
        except BaseException as error:
            said.put(error)
        finally:
            _one_at_a_time.release()

    threading.Thread(target=run, daemon=True).start()
    while True:
        if job.stopped:
            raise Stopped
        try:
            came = said.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            continue
        if isinstance(came, BaseException):
            raise came
        yield came
        if "told" not in came:
            return


def images_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The images that the page offers, in one picture; classes alone where no images are known."""
    try:
        shown = image_set(checkpoint).thumbnails()
    except ValueError:
        return {"picture": None, "columns": 1, "classes": _classes(checkpoint)}
    picture = base64.b64encode(shown.png).decode()
    is_own = checkpoint.told_examples is not None
    return {"picture": picture, "columns": shown.columns, "classes": shown.classes, "own": is_own}


def _classes(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    try:
        names = checkpoint.spec.class_names or (ANY_CLASS,)
    except ValueError:
        names = (ANY_CLASS,)
    return [{"name": name, "count": 1} for name in names[:100]]
