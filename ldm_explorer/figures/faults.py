"""The one plot that gives a fault away."""

from collections.abc import Sequence

import plotly.graph_objects as go

from ldm_explorer.figures.style import BROKEN_COLOR, RIGHT_COLOR, styled


def symptom_figure(
    name: str, timesteps: Sequence[tuple[float, float]], values: Sequence[tuple[float, float]]
) -> go.Figure:
    """A measure of the right and the broken run's predictions over the steps of the sampler."""
    figure = go.Figure()
    right, broken = zip(*values, strict=True)
    curves = zip(("right", "broken"), (right, broken), zip(*timesteps, strict=True), strict=True)
    lines = ({"color": RIGHT_COLOR, "width": 3}, {"color": BROKEN_COLOR, "width": 3, "dash": "dot"})
    for (label, curve, times), line in zip(curves, lines, strict=True):
        figure.add_scatter(
            x=list(range(1, len(curve) + 1)),
            y=list(curve),
            name=label,
            mode="lines+markers",
            line=line,
            customdata=list(times),
            hovertemplate="%{y:.3g}, t = %{customdata:.0f}",
        )
    if max(broken) > 20 * max(right) > 0:
        figure.update_yaxes(type="log")
    return styled(figure, name, x_title="step of the sampler")
