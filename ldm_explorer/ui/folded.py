"""A part of a room that is folded away, and computed when somebody opens it.

A part is what a room is, but for the question that it asks: a name, a title, settings, and what it answers.
"""

from typing import Any

import gradio as gr

from ldm_explorer.explore.library import Library
from ldm_explorer.ui.answers import RESULTS, answering

TEMPLATE = '<div class="ldm-folded"></div>'


def fold(part: Any, library: Library) -> None:
    """Lay out a part closed; while it is open it asks for what is chosen, as far as its settings name it."""
    with gr.Accordion(part.TITLE, open=False):
        opened = gr.HTML("", html_template=TEMPLATE, js_on_load="ldm.folded(element, () => trigger('ask'))")
        question = gr.Textbox("", visible="hidden", max_length=4000, label="Question")
        outputs = part.build(library)
    opened.ask(
        answering(part, library, RESULTS),
        question,
        outputs,
        js="() => ldm.state.asked[ldm.state.room]",
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )
