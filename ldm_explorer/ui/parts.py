"""Parts of a room: each is asked on its own, and one that is folded only while it is open.

So a change asks for what it changes alone, and what nobody looks at is not computed.
"""

import json
from typing import Any

import gradio as gr
from gradio.context import Context

from ldm_explorer.explore.library import Library
from ldm_explorer.ui.answers import RESULTS, Room, answering
from ldm_explorer.ui.stage import STAGE


def parts_of(room: Room) -> tuple[Any, ...]:
    """A room's parts: each is what a room is, an endpoint too; `build` of the room lays them out."""
    return getattr(room, "PARTS", ())


def is_folded(part: Any) -> bool:
    """Whether people open it."""
    return getattr(part, "FOLDED", False)


def parameters_of(room: Room) -> list[str]:
    """What can be chosen in a room or in one of its parts."""
    return list(dict.fromkeys(name for asked in (room, *parts_of(room)) for name in asked.SETTINGS.model_fields))


def question_id(name: str) -> str:
    """The elem_id of the hidden text that holds the question of a room or of a part."""
    return f"ldm-ask-{name}"


def lay_out(asked: Any, library: Library) -> None:
    """Lay out a room or a part here; whenever its question changes, it answers, and what it was asked before ends."""
    question = gr.Textbox("", visible="hidden", max_length=4000, label="Question", elem_id=question_id(asked.NAME))
    outputs = asked.build(library)
    on_stage = len(outputs) if STAGE in (outputs[0].elem_classes or ()) else None
    question.change(
        answering(asked, library, RESULTS, on_stage),
        question,
        outputs,
        trigger_mode="multiple",
        show_progress="minimal",
        show_progress_on=line(),
        api_visibility="private",
    )


def line() -> gr.HTML:
    """Where Gradio says a request's place in line and its seconds: one place for all rooms, made by the first."""
    made = Context.root_block.blocks.values() if Context.root_block else ()
    known = (block for block in made if isinstance(block, gr.HTML) and block.elem_id == "ldm-line")
    return next(known, None) or gr.HTML("", elem_id="ldm-line", padding=False)


def fold(part: Any, library: Library) -> None:
    """Lay out a part closed; opened, it asks for what is chosen by then."""
    with gr.Accordion(part.TITLE, open=False, elem_classes="ldm-fold") as accordion:
        lay_out(part, library)
    for event, is_open in ((accordion.expand, True), (accordion.collapse, False)):
        told = f"() => ldm.turn({json.dumps(part.NAME)}, {json.dumps(is_open)})"
        event(None, None, None, js=told, api_visibility="private")
