"""Feature FD of denoisers that differ in their network and their target alone."""

import plotly.graph_objects as go

from ldm_explorer.evaluation.measures import MEASURES
from ldm_explorer.explore.twins import MEASURE, Twins
from ldm_explorer.figures.latent_size import ROUND_NUMBERS
from ldm_explorer.figures.style import COLORS, REFERENCE_LINE, as_text, styled, title_in_legend

HEIGHT_OF_A_TWIN = 44


def twins_figure(twins: Twins) -> go.Figure:
    """A row for each twin and a point for each of its training seeds, as wide as sampling seeds move it.

    On a log scale, beside rFD and the floor.
    """
    figure = go.Figure()
    for color, twin in zip(COLORS, twins.twins, strict=False):
        figure.add_scatter(
            x=list(twin.fd_percent),
            y=[as_text(twin.label)] * len(twin.names),
            error_x={"array": [spread / 2 for spread in twin.sampling_spread], "thickness": 2},
            mode="markers",
            marker={"size": 12, "color": color, "symbol": "diamond"},
            customdata=[as_text(name) for name in twin.names],
            hovertemplate="%{customdata}: %{x:.3g} %<extra></extra>",
            showlegend=False,
        )
    ends = [as_text(twins.twins[-1].label), as_text(twins.twins[0].label)]
    references = {
        MEASURES["rfd_percent"].title: twins.rfd_percent,
        f"floor: {MEASURES['fd_floor_percent'].label}": twins.fd_floor_percent,
    }
    for (name, value), dash in zip(references.items(), ("dash", "dot"), strict=True):
        if value is not None:
            line = REFERENCE_LINE | {"dash": dash}
            figure.add_scatter(x=[value] * 2, y=ends, name=name, mode="lines", line=line, hovertemplate="%{x:.3g} %")
    fd = MEASURES[MEASURE]
    styled(figure, f"{fd.in_units}, {fd.goal}; a point is a training seed", hovermode="closest")
    figure.update_xaxes(type="log", tickvals=ROUND_NUMBERS)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(height=150 + HEIGHT_OF_A_TWIN * len(twins.twins))
    return title_in_legend(figure)
