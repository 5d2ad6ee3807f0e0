"""Room: which latent size?"""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.explore.library import Library
from ldm_explorer.explore.size_sentence import answer_in_a_sentence
from ldm_explorer.figures.latent_size import answer_figure
from ldm_explorer.ui.parts import fold, lay_out
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.sizes import between, chosen, continuity, kl, maps, reconstructed, table, twins, words
from ldm_explorer.ui.sizes.compared import Compared, compared, family, not_measured

NAME = "latent-size"
TITLE = "Latent size"
QUESTION = "Which latent size?"
WORK = LIGHT
SETTINGS = Compared
HIDDEN = ("checkpoint",)
"""It says which images the sizes were trained on, and nothing else here."""
FOLDS = (words, continuity, kl, twins, maps, between, table)
PARTS = (reconstructed, chosen, *FOLDS)


def build(library: Library) -> list[gr.components.Component]:
    sentence = gr.Markdown("", elem_classes="ldm-answer")
    with gr.Row(elem_classes="ldm-whole"):
        with gr.Column(scale=3, min_width=320, elem_classes="ldm-pick-size"):
            figure = gr.Plot(show_label=False, min_width=320)
        with gr.Column(scale=2, min_width=300):
            lay_out(reconstructed, library)
    lay_out(chosen, library)
    for part in FOLDS:
        fold(part, library)
    return [sentence, figure]


def answer(library: Library, asked: Compared, _beside: Compared | None) -> Iterator[tuple]:
    """The answer in a sentence, and the figure of it: reconstruction, generation and cost over the number of values."""
    measured, spread = family(library, asked)
    said = (answer_in_a_sentence(measured, spread), not_measured(library, asked))
    yield "\n\n".join(filter(None, said)), answer_figure(compared(library, asked), spread)
