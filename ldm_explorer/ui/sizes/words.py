"""Part: the answer in figures, by comparisons."""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.evaluation.measures import MEASURES
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.size_answer import answer_in_numbers, answer_in_short
from ldm_explorer.explore.size_measures import csv_table
from ldm_explorer.figures.latent_size import ROWS
from ldm_explorer.ui.pictures import csv_link
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.sizes.compared import Compared, compared, family

NAME = "sizes-words"
QUESTION = "What do more values, more side and more channels of the latent give and cost?"
TITLE = "What more values, more side and more channels give and cost"
FOLDED = True
WORK = LIGHT
SETTINGS = Compared
WHAT_A_LATENT_IS = (
    "A latent is a grid of **side** x side places with some **channels** each: 8x8x4 holds 256 values. What more "
    "values, and more side, give and cost:"
)
HOW_TO_READ = (
    "One colour per side, open symbols where nothing is compressed; PCA is the best linear code of as many values. All "
    "of the family trained for equally long, so finer grids have narrower networks: at the widths of an 8x8 grid, one "
    "evaluation at 32x32 would cost 15 times as much.\n\n"
    "The spread of seeds is how far apart three short trainings end that differ in their seed alone, relative to their "
    "mean but for decibels; it was measured at 8x8x4 and 32x32x1, and the larger spread counts. A smaller difference "
    "is called luck; in each figure next to none to a third of the pairs of latents that are equally good would still "
    "be told apart, by how much their own seeds vary. Whiskers show this spread."
)
TERMS = "\n".join(f"- **{MEASURES[name].title}**: {MEASURES[name].definition}" for name in ROWS)
COLUMNS = [*ROWS, "pca_psnr_db", "fd_percent_spread", "fd_floor_percent"]


def build(_library: Library) -> list[gr.components.Component]:
    gr.Markdown(WHAT_A_LATENT_IS)
    shown = [gr.Markdown(""), gr.Markdown("")]
    gr.Markdown(f"{TERMS}\n\n{HOW_TO_READ}")
    return [*shown, gr.HTML("", padding=False)]


def answer(library: Library, chosen: Compared, _beside: Compared | None) -> Iterator[tuple]:
    """The comparisons in words, then in figures with the spread of seeds, and the table of the figure above."""
    measured, spread = family(library, chosen)
    link = csv_link(csv_table(compared(library, chosen), COLUMNS), "latent-size")
    yield answer_in_short(measured, spread), answer_in_numbers(measured, spread), link
