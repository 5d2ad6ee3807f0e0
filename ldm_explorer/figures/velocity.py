"""The two coefficients of a noisy latent over t."""

from collections.abc import Sequence

import plotly.graph_objects as go

from ldm_explorer.figures.style import LATENT_COLORS, as_text, plotted_timesteps, styled
from ldm_explorer.schedules import FlowSchedule, Schedule

_DASHES = ("solid", "dash")


def coefficient_figure(schedules: Sequence[tuple[str, Schedule]]) -> go.Figure:
    """a and b over t of one schedule, or of two, by their names."""
    figure = go.Figure()
    for (name, schedule), dash in zip(schedules, _DASHES, strict=False):
        timesteps = plotted_timesteps(schedule.num_timesteps)
        shown = schedule.amplitudes[timesteps]
        whose = f", {as_text(name)}" if len(schedules) > 1 else ""
        for letter, values, like in (("a", shown.a, "z0"), ("b", shown.b, "eps")):
            figure.add_scatter(
                x=timesteps,
                y=values.tolist(),
                name=f"{letter}, how much {like}{whose}",
                line={"color": LATENT_COLORS[like], "width": 2.5, "dash": dash},
                hovertemplate="%{y:.4f}",
            )
    is_flow = all(isinstance(schedule, FlowSchedule) for _, schedule in schedules)
    title = "a = 1 − s and b = s over t" if is_flow else "a = cos φ and b = sin φ over t"
    return styled(figure, title, x_title="timestep t")
