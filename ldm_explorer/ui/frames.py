"""The steps of a run one after the other in one piece of HTML: the page shows one of them, and asks nobody for it."""

import gradio as gr

from ldm_explorer.ui.html import Markup, html

_SHOW = """(position) => document.querySelectorAll("#{name} .ldm-frame").forEach(
    (frame, index) => frame.style.display = index + 1 === position ? "block" : "none"
)"""


def frame(pictures: Markup) -> Markup:
    """One step. A run is its steps joined; while it grows only what is new travels, and the last step shows."""
    return html('<div class="ldm-frame">{}</div>', pictures)


def show_by_slider(slider: gr.Slider, name: str) -> None:
    """Let a slider choose the step that shows, from 1, in the `gr.HTML` with that elem_id."""
    slider.input(None, slider, None, js=_SHOW.format(name=name), api_visibility="private")
