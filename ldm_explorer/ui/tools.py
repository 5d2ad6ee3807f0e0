"""The row of tools under the stage: the link to what is shown, its pictures, plots and script as files, the start."""

import base64
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from ldm_explorer.explore.library import Library
from ldm_explorer.ui.admission import check_names
from ldm_explorer.ui.animation import animate
from ldm_explorer.ui.answers import Room, answers, one_sentence
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.page_script import once_loaded
from ldm_explorer.ui.results import Results
from ldm_explorer.ui.server.turns import Job
from ldm_explorer.ui.server.work import LONG

TOOLS = (
    ("link", "Copy link", "The address of what is shown"),
    ("png", "PNG", "What the stage shows now, as a picture, 8 times as large"),
    ("gif", "GIF", "Every step once, as an animated picture"),
    ("csv", "CSV", "The curves of all plots in this room, as a table"),
    ("python", "as Python", "A script that makes the same"),
    ("reset", "Reset", "All choices as the page opened with"),
)
"""What assets/tools.js does, what the button says, and what it is for."""


def tool_row(room: Room) -> gr.HTML:
    """The row of one room: the same in all, but for a script where a room writes none."""
    return gr.HTML(
        _buttons(hasattr(room, "script")),
        js_on_load=once_loaded("ldm.tools(element)"),
        elem_classes="ldm-tools",
        padding=False,
    )


def _buttons(with_script: bool) -> Markup:
    buttons = join(
        html('<button type="button" data-tool="{}" title="{}">{}</button>', tool, purpose, name)
        for tool, name, purpose in TOOLS
        if with_script or tool != "python"
    )
    return html('<div role="group" aria-label="Save and share">{}<output role="status"></output></div>', buttons)


def under_the_stage(tab: gr.Tab, row: gr.HTML) -> None:
    """Move the row of tools from the end of a room to below its first stage, where it has one."""

    def holds_stage(block) -> bool:
        return "ldm-whole" in (getattr(block, "elem_classes", None) or ()) or any(
            map(holds_stage, getattr(block, "children", ()))
        )

    tab.children.remove(row)
    place = next((index for index, block in enumerate(tab.children) if holds_stage(block)), len(tab.children))
    tab.children.insert(place + 1, row)


def build_tools(rooms: tuple[Room, ...], library: Library, results: Results) -> None:
    """What the server does for the rows of all rooms: a script, shown in a dialog, and a GIF."""
    by_name = {room.NAME: room for room in rooms}
    asked = [
        gr.Textbox("", visible="hidden", label="Room of the tool", max_length=60),
        gr.Textbox("", visible="hidden", label="Question of the tool", max_length=4000),
    ]
    dialog = gr.HTML(
        None,
        html_template="<dialog></dialog>",
        js_on_load=once_loaded("ldm.script(element, props, watch)"),
        padding=False,
    )
    download = gr.HTML(
        None, html_template="<i hidden></i>", js_on_load=once_loaded("ldm.animation(props, watch)"), padding=False
    )

    def script(room: str, question: str) -> dict[str, str]:
        with one_sentence():
            chosen_in = _room(by_name, room)
            check_names(library, (value for _, value in chosen_in.SETTINGS.read(question)[0]))
            return {"room": room, "question": question, "text": script_for(chosen_in, library, question)}

    def animation(room: str, question: str) -> dict[str, str]:
        with one_sentence():
            job = Job.of(LocalContext.event_id.get(None))
            gif = animation_of(_room(by_name, room), library, results, question, job)
            return {"room": room, "question": question, "gif": base64.b64encode(gif).decode()}

    animation.work = LONG  # type: ignore[attr-defined]
    for name, handler, output in (("python", script, dialog), ("gif", animation, download)):
        _connect(f"ldm-make-{name}", handler, asked, output)


def _connect(name: str, handler: Callable, asked: list[gr.Textbox], output: gr.HTML) -> None:
    options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    button = gr.Button("Make", visible="hidden", elem_id=name)
    made = button.click(handler, asked, output, js="() => ldm.tool.asked()", **options)
    made.failure(None, None, None, js="() => ldm.tool.failed()", **options)


def _room(rooms: dict[str, Room], name: str) -> Room:
    if name not in rooms:
        raise ValueError(f"there is no room {name}: give one of {', '.join(rooms)}")
    return rooms[name]


def script_for(room: Room, library: Library, question: str) -> str:
    """The script of A, as the room's own `script(library, chosen)` writes it.

    Raises `ValueError` where it has none, or the question does not fit.
    """
    if not hasattr(room, "script"):
        raise ValueError(f"{room.TITLE} has no script: docs/python.md shows how the library is asked the same")
    return room.script(library, room.SETTINGS.read(question)[0])


def animation_of(room: Room, library: Library, results: Results, question: str, job: Job) -> bytes:
    """The GIF of what the room shows. Raises `ValueError` where it shows no run."""
    values: tuple = ()
    for values in answers(room, library, results, question, job):  # noqa: B007 (the last one counts)
        pass
    show = next((value for value in values if isinstance(value, dict) and "frames" in value), None)
    if show is None:
        raise ValueError("nothing is played in this room: there is no GIF of it")
    return animate(show)
