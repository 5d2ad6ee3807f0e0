"""Part: is the latent space continuous?"""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.evaluation.measures import MEASURES
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.size_answer import continuity_in_numbers
from ldm_explorer.figures.continuity import PANELS
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.sizes.compared import Compared, compared, family
from ldm_explorer.ui.sizes.panels import build_panels, drawn

NAME = "sizes-continuity"
QUESTION = "Is the latent space continuous, at every size?"
TITLE = "Is the latent space continuous?"
FOLDED = True
WORK = LIGHT
SETTINGS = Compared
WHAT_IT_IS = (
    "That is several questions, and one latent can do well in one and badly in another: no single grade is made of "
    "them. Colours are those of the sides, open symbols compress nothing."
)
SHOWN = {
    name: panel
    for name, panel in PANELS.items()
    if any(MEASURES[measure].section != "latent_space" for measure in panel.measures)
}


def build(_library: Library) -> list[gr.components.Component]:
    gr.Markdown(WHAT_IT_IS)
    return [gr.Markdown(""), *build_panels(SHOWN)]


def answer(library: Library, chosen: Compared, _beside: Compared | None) -> Iterator[tuple]:
    """Which measures get worse and which do not, and a small figure of each."""
    measured, spread = family(library, chosen)
    yield continuity_in_numbers(measured, spread), *drawn(SHOWN, compared(library, chosen), spread)
