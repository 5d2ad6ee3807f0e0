"""Part: what the KL term does."""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.explore.library import Library
from ldm_explorer.explore.size_measures import csv_table, kl_row
from ldm_explorer.figures.continuity import KL_MEASURES, PANELS, kl_figure
from ldm_explorer.ui.pictures import csv_link
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.sizes.compared import Compared, compared, family
from ldm_explorer.ui.sizes.continuity import SHOWN
from ldm_explorer.ui.sizes.panels import build_panels, drawn

NAME = "sizes-kl"
QUESTION = "What does the KL term do, and how much is every value of the latent used?"
TITLE = "What does the KL term do?"
FOLDED = True
WORK = LIGHT
SETTINGS = Compared
WHAT_IT_SHOWS = (
    "The same autoencoder with other weights of the KL term, which pulls every value of the latent towards noise: the "
    "active units are those that still say something about the image. Where none is left, the posterior has collapsed."
)
NO_ROW = "Here are no two autoencoders of one shape that differ in the weight of the KL term."
OF_SIZES = {name: panel for name, panel in PANELS.items() if name not in SHOWN}


def build(_library: Library) -> list[gr.components.Component]:
    gr.Markdown(WHAT_IT_SHOWS)
    shown = [gr.Markdown(""), gr.Plot(show_label=False, min_width=300), gr.HTML("", padding=False)]
    gr.Markdown("At every size, with the weight that it was trained with:")
    return [*shown, *build_panels(OF_SIZES)]


def answer(library: Library, chosen: Compared, _beside: Compared | None) -> Iterator[tuple]:
    """A figure over the weights, where there are several, and how much the values of every size are used."""
    measured, spread = family(library, chosen)
    of_sizes = drawn(OF_SIZES, compared(library, chosen), spread)
    if row := kl_row(measured):
        said = f"{len(row)} weights at {row[0].size.shape} ({row[0].size.in_words})."
        yield said, kl_figure(row, spread), csv_link(csv_table(row, KL_MEASURES), "kl-weight"), *of_sizes
    else:
        yield NO_ROW, None, "", *of_sizes
