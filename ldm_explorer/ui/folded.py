"""A part of a room that is folded away, and computed when somebody opens it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ldm_explorer.explore.library import Library
from ldm_explorer.ui.answers import RESULTS, answering
from ldm_explorer.ui.server.work import LIGHT, Work
from ldm_explorer.ui.settings import Settings

TEMPLATE = '<div class="ldm-folded"></div>'


@dataclass(frozen=True)
class Folded:
    """Asks as a room does, with as many of the choices as `SETTINGS` names; `NAME` is its own among all of them."""

    NAME: str
    TITLE: str
    SETTINGS: type[Settings]
    answer: Callable[[Library, Any, Any | None], Iterator[tuple]]
    WORK: Work = LIGHT

    @contextmanager
    def unfolding(self, library: Library) -> Iterator[list[gr.components.Component]]:
        """Lay out what the answers fill inside, and put it into the list."""
        outputs: list[gr.components.Component] = []
        with gr.Accordion(self.TITLE, open=False):
            opened = gr.HTML("", html_template=TEMPLATE, js_on_load="ldm.folded(element, () => trigger('ask'))")
            question = gr.Textbox("", visible="hidden", max_length=4000, label="Question")
            yield outputs
        opened.ask(
            answering(self, library, RESULTS),  # type: ignore[arg-type]  # it is all of a room that answers
            question,
            outputs,
            js="() => ldm.ask()",
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
