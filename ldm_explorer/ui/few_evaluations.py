"""In the tab of denoising: how many evaluations of the network are enough?"""

import gradio as gr

from ldm_explorer.explore.few_evaluations import read_few_evaluations
from ldm_explorer.explore.library import Library
from ldm_explorer.figures.few_evaluations import few_evaluations_figure
from ldm_explorer.ui.common import SharedChoices, bind
from ldm_explorer.ui.pictures import csv_link

WHAT_TO_LOOK_AT = (
    "### How many steps are enough?\nWithout guidance, as here, every step is one evaluation of the network. Samples "
    "get no better where a sampler's curve turns flat; the dashed line is what the autoencoder alone loses, the dotted "
    "one how far apart two sets of real images are."
)


def show_few_evaluations(library: Library, checkpoint: str):
    """Feature FD over the number of evaluations, per sampler, where it was measured for the checkpoint: whether it was,
    a Plotly figure, and its table as a link to CSV in HTML."""
    measured = read_few_evaluations(library.get(checkpoint))
    if measured is None:
        return gr.update(visible=False), None, ""
    link = csv_link(measured.csv(), f"{checkpoint}-few-evaluations")
    return gr.update(visible=True), few_evaluations_figure(measured), link


def build_few_evaluations(library: Library, shared: SharedChoices) -> None:
    """Lay it out, hidden where the chosen checkpoint has no such measures."""
    handler = bind(show_few_evaluations, library)
    shown, figure, link = handler(shared.checkpoint.value)
    with gr.Column(visible=shown["visible"]) as section:
        gr.Markdown(WHAT_TO_LOOK_AT)
        outputs = [section, gr.Plot(figure, show_label=False, min_width=320), gr.HTML(link, padding=False)]
    shared.checkpoint.change(
        handler,
        shared.checkpoint,
        outputs,
        api_name="few_evaluations",
        api_description=show_few_evaluations.__doc__,
    )
