"""Part: what the network and the target change, on the same latents."""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.explore.library import Library
from ldm_explorer.explore.twins import answer as in_words
from ldm_explorer.explore.twins import read_twins
from ldm_explorer.figures.twins import twins_figure
from ldm_explorer.ui.pictures import csv_link
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.sizes.compared import Compared

NAME = "sizes-twins"
QUESTION = "On the same latents: UNet or transformer, velocity along betas or along a flow?"
TITLE = "UNet or transformer, betas or flow?"
FOLDED = True
WORK = LIGHT
SETTINGS = Compared


def build(_library: Library) -> list[gr.components.Component]:
    return [gr.Markdown(""), gr.Plot(show_label=False, min_width=300), gr.HTML("", padding=False)]


def answer(library: Library, chosen: Compared, _beside: Compared | None) -> Iterator[tuple]:
    """A sentence, a figure and its table, of the family's denoisers over one autoencoder."""
    twins = read_twins(library, chosen.checkpoint)
    if twins is None:
        yield in_words(None), None, ""
    else:
        yield in_words(twins), twins_figure(twins), csv_link(twins.csv(), "twins")
