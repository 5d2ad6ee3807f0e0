"""Part: how many evaluations of the network are enough?"""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.explore.few_evaluations import read_few_evaluations
from ldm_explorer.explore.library import Library
from ldm_explorer.figures.few_evaluations import few_evaluations_figure
from ldm_explorer.ui.pictures import csv_link
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.settings import OfCheckpoint

NAME = "few-evaluations"
TITLE = "How many steps are enough?"
FOLDED = True
WORK = LIGHT
WHAT_TO_LOOK_AT = (
    "Without guidance, as here, every step is one evaluation of the network. Samples get no better where a sampler's "
    "curve turns flat; the dashed line is what the autoencoder alone loses, the dotted one how far apart two sets of "
    "real images are."
)
OF_STUDENTS = (
    " A student is a network of its own, distilled to as many evaluations as its star stands at: choose it as the "
    "checkpoint of B, and the same seed shows it beside its teacher."
)


SETTINGS = OfCheckpoint


def build(_library: Library) -> list[gr.components.Component]:
    return [gr.Markdown(), gr.Plot(visible=False, show_label=False, min_width=320), gr.HTML(padding=False)]


def answer(library: Library, chosen: OfCheckpoint, _beside: OfCheckpoint | None) -> Iterator[tuple]:
    """Feature FD over the number of evaluations, per sampler, where it was measured for the checkpoint."""
    checkpoint = library.get(chosen.checkpoint)
    measured = read_few_evaluations(checkpoint, library.checkpoints)
    if measured is None:
        said = f"It was not measured for {checkpoint.name}: `train/evaluate.py --few-evaluations` does."
        yield said, gr.update(visible=False, value=None), ""
        return
    link = csv_link(measured.csv(), f"{measured.name}-few-evaluations")
    said = WHAT_TO_LOOK_AT + OF_STUDENTS * bool(measured.students)
    yield said, gr.update(visible=True, value=few_evaluations_figure(measured)), link
