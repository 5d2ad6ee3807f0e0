"""Tab: what is wrong with it?"""

import gradio as gr

from ldm_explorer.diagnosis.verdicts import OUT_OF_REACH, Diagnosis, Verdict, by_reason
from ldm_explorer.explore.diagnosis import diagnose_checkpoint
from ldm_explorer.explore.library import Library
from ldm_explorer.samplers import DEFAULT_SAMPLER
from ldm_explorer.ui.common import SharedChoices, bind
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.pictures import Picture, grid, notice, picture_row
from ldm_explorer.ui.server.work import LONG

TITLE = "What is wrong with it?"
WHAT_TO_LOOK_AT = (
    "The checkpoint is examined: its settings, its networks, and what they do with latents. A fault has side effects "
    "(a wrong prediction type also gives a high loss and bad samples), so likely causes come first and what follows "
    "from them below. The same for any folder: `python -m ldm_explorer.diagnose FOLDER`."
)
INVITATION = notice(["This checkpoint was not examined yet: press Examine. It takes some seconds."])


def diagnose(library: Library, checkpoint: str) -> Markup:
    """Examine a checkpoint of the library: likely causes with evidence and fixes, and what passed, as HTML."""
    return _card(diagnose_checkpoint(library.get(checkpoint)))


def _card(diagnosis: Diagnosis) -> Markup:
    state = " wrong" if diagnosis.causes else ""
    parts: list[str] = [html('<p class="ldm-verdict{}">{}</p>', state, diagnosis.sentence())]
    parts += [_cause(number, cause) for number, cause in enumerate(diagnosis.causes, start=1)]
    parts.append(_section("Also seen, as a side effect", [_symptom(diagnosis, v) for v in diagnosis.symptoms]))
    parts.append(_pictures(diagnosis))
    parts.append(_section("Passed", [(verdict.title, verdict.evidence) for verdict in diagnosis.passed]))
    not_run = by_reason(diagnosis.not_run)
    parts.append(_section("Not run", [("; ".join(titles), why) for why, titles in not_run.items()]))
    parts.append(_section("Out of reach, in the code that calls a model", [("", text) for text in OUT_OF_REACH]))
    return html('<div class="ldm-card">{}</div>', join(parts))


def _cause(number: int, cause: Verdict) -> Markup:
    fix = html("<p>Fix: <code>{}</code></p>", cause.fix) if cause.fix else ""
    template = "<section><h2>{}. {}</h2><p>{}</p>{}</section>"
    return html(template, number, cause.title, cause.evidence, fix)


def _symptom(diagnosis: Diagnosis, symptom: Verdict) -> tuple[str, str]:
    return f"{symptom.title} (follows from: {diagnosis.title_of_cause(symptom)})", symptom.evidence


def _section(heading: str, lines: list[tuple[str, str]]) -> Markup | str:
    if not lines:
        return ""
    items = [html("<li>{}{}</li>", html("<b>{}.</b> ", title) if title else "", text) for title, text in lines]
    return html("<section><h2>{}</h2><ul>{}</ul></section>", heading, join(items))


def _pictures(diagnosis: Diagnosis) -> Markup | str:
    shown = [
        (diagnosis.images, "Images", "test images, or those beside the run"),
        (diagnosis.reconstructions, "Given back", "encoded and decoded"),
        (diagnosis.samples, "Generated", f"10 steps of {DEFAULT_SAMPLER} along the folder's betas, never clipped"),
    ]
    pictures = [Picture(grid(images), title, caption) for images, title, caption in shown if images is not None]
    return picture_row(pictures, layout="large") if pictures else ""


def forget(_library: Library, _checkpoint: str) -> Markup:
    """What stands here before a checkpoint was examined."""
    return INVITATION


def build(library: Library, shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks; the examination runs when the tab is opened, not with the app."""
    tab = gr.Markdown(WHAT_TO_LOOK_AT).parent
    run = gr.Button("Examine", variant="primary")
    card = gr.HTML(INVITATION)
    gr.on(
        [tab.select, run.click],
        bind(diagnose, library, LONG),
        shared.checkpoint,
        card,
        api_name="diagnose",
        api_description=diagnose.__doc__,
        trigger_mode="always_last",
    )
    shared.checkpoint.change(bind(forget, library), shared.checkpoint, card, api_visibility="private")
