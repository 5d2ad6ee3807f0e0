"""Small figures, each with its title, how it is read, and its table."""

from collections.abc import Mapping, Sequence

import gradio as gr

from ldm_explorer.explore.size_measures import SizeMeasures, csv_table
from ldm_explorer.figures.continuity import Panel, panel_figure
from ldm_explorer.ui.pictures import csv_link


def build_panels(panels: Mapping[str, Panel]) -> list[gr.components.Component]:
    """As many in a row as there is room for: a plot and a link for each."""
    shown: list[gr.components.Component] = []
    with gr.Row():
        for panel in panels.values():
            with gr.Column(min_width=300):
                gr.Markdown(f"### {panel.title}")
                plot = gr.Plot(show_label=False, min_width=300)
                gr.Markdown(panel.reading)
                shown += [plot, gr.HTML("", padding=False)]
    return shown


def drawn(panels: Mapping[str, Panel], sizes: Sequence[SizeMeasures], spread: dict[str, float]) -> list:
    """The values of what `build_panels` laid out."""
    values = []
    for name, panel in panels.items():
        values += [panel_figure(panel, sizes, spread), csv_link(csv_table(sizes, panel.columns), name)]
    return values
