"""The one plot that gives a fault away."""

from collections.abc import Sequence

import plotly.graph_objects as go

from ldm_explorer.figures.style import BROKEN_COLOR, RIGHT_COLOR, styled


def symptom_figure(name: str, timesteps: Sequence[int], right: Sequence[float], broken: Sequence[float]) -> go.Figure:
    """A figure of both runs' predictions over the steps of the sampler."""
    figure = go.Figure()
    for label, values, color in (("right", right, RIGHT_COLOR), ("broken", broken, BROKEN_COLOR)):
        figure.add_scatter(
            x=list(range(1, len(timesteps) + 1)),
            y=list(values),
            name=label,
            mode="lines+markers",
            line={"color": color, "width": 3},
            customdata=list(timesteps),
            hovertemplate="%{y:.3g}, t = %{customdata}",
        )
    if max(broken) > 20 * max(right) > 0:
        figure.update_yaxes(type="log")
    return styled(figure, name, x_title="step of the sampler")
