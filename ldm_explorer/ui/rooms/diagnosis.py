"""Room: what is wrong with it?"""

from collections.abc import Iterable, Iterator, Sequence

import gradio as gr

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.diagnose import ACCUSED, HEALTHY, REFUSED, UNJUDGED
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.verdicts import OUT_OF_REACH, Diagnosis, Verdict, by_reason
from ldm_explorer.explore.diagnosis import diagnose_checkpoint, when_written
from ldm_explorer.explore.library import Library
from ldm_explorer.samplers import DEFAULT_SAMPLER
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.page_script import once_loaded
from ldm_explorer.ui.pictures import Picture, grid, picture_row
from ldm_explorer.ui.rooms.faults import link_to_cause
from ldm_explorer.ui.server.work import LONG
from ldm_explorer.ui.settings import OfCheckpoint

NAME = "diagnosis"
TITLE = "Diagnosis"
QUESTION = "What is wrong with it?"
WORK = LONG
ANY_FOLDER = f"""
Where the app runs on your machine, *Open a folder or a Hub id* examines any diffusers VAE, UNet or DiT and scheduler,
ours or not; it is only read. A command does the same:
`ldm-diagnose FOLDER [--images DIR] [--json]`

`--images` is a folder of images like those of its training, subfolders being classes: more checks can run with them.
`--json` prints what stands here for programs. The exit status is {HEALTHY} for a healthy folder, {ACCUSED} where
something is accused, {REFUSED} for a folder that cannot be examined, {UNJUDGED} for one that could not be judged, as
most checks that see the common faults could not run. `python -m ldm_explorer.diagnose` is the same.
"""
HOW_IT_WORKS = (
    "A checkpoint's settings, its networks, and what they do with latents are examined. A fault has side effects (a "
    "wrong prediction type also gives a high loss and bad samples), so likely causes come first and what follows from "
    "them below."
)
IN_STEPS = f"10 steps of {DEFAULT_SAMPLER}, a student's own of ddim, along the folder's schedule, never clipped"


SETTINGS = OfCheckpoint


def build(_library: Library) -> list[gr.components.Component]:
    shown = gr.HTML("", padding=False, js_on_load=once_loaded("ldm.links(element)"))
    with gr.Accordion("How it is found, and any other folder", open=False, elem_classes="ldm-fold"):
        gr.Markdown(HOW_IT_WORKS)
        gr.Markdown(ANY_FOLDER)
    return [shown]


def answer(library: Library, chosen: OfCheckpoint, beside: OfCheckpoint | None) -> Iterator[tuple]:
    """Likely causes with evidence and fixes, and what passed, of A and of B; until then how many checks were run."""
    names = [side.checkpoint for side in (chosen, beside) if side]
    checkpoints = [library.get(name) for name in names]
    cards: list[Markup] = []
    for name, checkpoint in zip(names, checkpoints, strict=True):
        cards.append(join([]))
        for diagnosis in diagnose_checkpoint(checkpoint):
            cards[-1] = _progress(diagnosis)
            yield (_beside(cards, checkpoints),)
        cards[-1] = card(diagnosis, name if checkpoint.has_denoiser else "")
        yield (_beside(cards, checkpoints),)


def stamp(library: Library, chosen: OfCheckpoint, beside: OfCheckpoint | None) -> str:
    """Another one when files of the checkpoints were written."""
    return str([when_written(library.get(side.checkpoint)) for side in (chosen, beside) if side])


def _beside(cards: Sequence[Markup], checkpoints: Sequence[Checkpoint]) -> Markup:
    """A's card alone, or A's and B's with their names."""
    if len(checkpoints) == 1:
        return cards[0]
    named = zip(checkpoints, cards, strict=False)
    sections = (html("<section><h3>{}</h3>{}</section>", checkpoint.name, shown) for checkpoint, shown in named)
    return html('<div class="ldm-cards">{}</div>', join(sections))


def _progress(diagnosis: Diagnosis) -> Markup:
    told = '<p role="status">{} is examined: {} of {} checks.</p>'
    return html(told, diagnosis.folder, len(diagnosis.verdicts), len(CHECKS))


def card(diagnosis: Diagnosis, checkpoint: str = "") -> Markup:
    """The verdict, its causes with the pictures beside them, and folded what else was looked at.

    Each cause has a link to the room that shows it, where the checkpoint that can be sampled from is named.
    """
    kind = {True: "", False: " wrong", None: " unjudged"}[diagnosis.is_healthy]
    verdict = html('<p class="ldm-verdict{}">{}</p>', kind, diagnosis.sentence())
    causes = join(_cause(number, cause, checkpoint) for number, cause in enumerate(diagnosis.causes, start=1))
    also = _list("Also seen, as a side effect", [_symptom(diagnosis, symptom) for symptom in diagnosis.symptoms])
    words = html("<div>{}{}</div>", causes, also) if causes else ""
    beside = html('<div class="ldm-beside">{}{}</div>', words, _pictures(diagnosis))
    passed = [(verdict.title, verdict.evidence) for verdict in diagnosis.passed]
    not_run = [("; ".join(titles), why) for why, titles in by_reason(diagnosis.not_run).items()]
    folded = [
        _fold(f"{len(passed)} passed", passed),
        _fold(f"{len(diagnosis.not_run)} not run", not_run),
        _fold("Out of reach, in the code that calls a model", [("", text) for text in OUT_OF_REACH]),
    ]
    return html('<div class="ldm-card">{}{}{}</div>', verdict, beside, join(folded))


def _cause(number: int, cause: Verdict, checkpoint: str) -> Markup:
    fix = html("<p>Fix: <code>{}</code></p>", cause.fix) if cause.fix else ""
    link = link_to_cause(cause.name, checkpoint, "See it step by step, beside a run without it")
    template = "<section><h3>{}. {}</h3><p>{}</p>{}{}</section>"
    return html(template, number, cause.title, cause.evidence, fix, link if checkpoint else "")


def _symptom(diagnosis: Diagnosis, symptom: Verdict) -> tuple[str, str]:
    return f"{symptom.title} (follows from: {diagnosis.title_of_cause(symptom)})", symptom.evidence


def _list(heading: str, lines: Iterable[tuple[str, str]]) -> Markup | str:
    items = _items(lines)
    return html("<section><h3>{}</h3>{}</section>", heading, items) if items else ""


def _fold(heading: str, lines: Iterable[tuple[str, str]]) -> Markup | str:
    items = _items(lines)
    return html("<details><summary>{}</summary>{}</details>", heading, items) if items else ""


def _items(lines: Iterable[tuple[str, str]]) -> Markup | str:
    items = [html("<li>{}{}</li>", html("<b>{}.</b> ", title) if title else "", text) for title, text in lines]
    return html("<ul>{}</ul>", join(items)) if items else ""


def _pictures(diagnosis: Diagnosis) -> Markup | str:
    shown = [
        (diagnosis.images, "Images", "test images, or those beside the run"),
        (diagnosis.reconstructions, "Given back", "encoded and decoded"),
        (diagnosis.samples, "Generated", IN_STEPS),
    ]
    pictures = [Picture(grid(images), title, caption) for images, title, caption in shown if images is not None]
    return picture_row(pictures) if pictures else ""
