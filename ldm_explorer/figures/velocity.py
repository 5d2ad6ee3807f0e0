"""The two coefficients of a noisy latent over t."""

from collections.abc import Sequence

import plotly.graph_objects as go
from torch import Tensor

from ldm_explorer.figures.style import LATENT_COLORS, as_text, plotted_timesteps, styled

_DASHES = ("solid", "dash")


def coefficient_figure(schedules: Sequence[tuple[str, Tensor]]) -> go.Figure:
    """a and b over t of one schedule, or of two; each is its name and its abar `(T,)`."""
    figure = go.Figure()
    for (name, alpha_bars), dash in zip(schedules, _DASHES, strict=False):
        timesteps = plotted_timesteps(len(alpha_bars))
        shown = alpha_bars[timesteps]
        whose = f", {as_text(name)}" if len(schedules) > 1 else ""
        for letter, values, like in (("a", shown.sqrt(), "z0"), ("b", (1 - shown).sqrt(), "eps")):
            figure.add_scatter(
                x=timesteps,
                y=values.tolist(),
                name=f"{letter}, how much {like}{whose}",
                line={"color": LATENT_COLORS[like], "width": 2.5, "dash": dash},
                hovertemplate="%{y:.4f}",
            )
    return styled(figure, "a = cos φ and b = sin φ over t", x_title="timestep t")
