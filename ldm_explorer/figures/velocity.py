"""The plane of z0 and eps, and its two coefficients over t."""

import math

import plotly.graph_objects as go

from ldm_explorer.explore.velocity import VelocityView
from ldm_explorer.figures.style import HEIGHT, LATENT_COLORS, plotted_timesteps, styled

PLANE_HEIGHT = 390
_CIRCLE_COLOR = "rgba(128, 128, 128, 0.55)"
_LABELS = {"z0": "z<sub>0</sub>", "eps": "ε", "z_t": "z<sub>t</sub>", "v": "v", "z_s": "z<sub>s</sub>"}


def plane_figure(view: VelocityView) -> go.Figure:
    """Latents as their coefficients of z0 and eps: z_t on the unit circle at angle phi, v its tangent, the step's arc.

    v stands at the tip of z_t; its own coefficients are (-b, a).
    """
    a, b = math.cos(view.angle), math.sin(view.angle)
    figure = go.Figure()
    circle = [math.tau * step / 180 for step in range(181)]
    _line(figure, [_on_circle(angle) for angle in circle], _CIRCLE_COLOR, width=1.5)
    for point in ((a, 0), (0, b)):
        _line(figure, [(a, b), point], LATENT_COLORS["z_t"], width=1.2, dash="dot")
    arc = [view.angle + (view.angle_s - view.angle) * step / 60 for step in range(61)]
    _line(figure, [_on_circle(angle) for angle in arc], LATENT_COLORS["z_s"], width=5)
    _line(figure, [_on_circle(view.angle * step / 60, 0.2) for step in range(61)], _CIRCLE_COLOR, width=1.5)
    _arrow(figure, "z0", (0, 0), (1, 0), "bottom left")
    _arrow(figure, "eps", (0, 0), (0, 1), "bottom left")
    _arrow(figure, "z_s", (0, 0), _on_circle(view.angle_s), "bottom right")
    _arrow(figure, "z_t", (0, 0), (a, b), "top right")
    _arrow(figure, "v", (a, b), (a - b, b + a), "top center")
    half = _on_circle(view.angle / 2, 0.28)
    figure.add_annotation(x=half[0], y=half[1], text="φ", showarrow=False, font_size=14)
    styled(figure, f"z0 and eps, turned by φ = {math.degrees(view.angle):.1f}°", hovermode="closest")
    figure.update_layout(height=PLANE_HEIGHT, showlegend=False, margin_t=40)
    figure.update_xaxes(title_text="coefficient of z0", range=[-1.1, 1.3], constrain="domain", zeroline=True)
    figure.update_yaxes(title_text="coefficient of eps", range=[-0.3, 1.6], scaleanchor="x", constrain="domain")
    figure.update_yaxes(constraintoward="top")
    return figure


def coefficient_figure(view: VelocityView) -> go.Figure:
    """a and b over t, with the step from t to s marked."""
    timesteps = plotted_timesteps(len(view.alpha_bars))
    alpha_bars = view.alpha_bars[timesteps]
    figure = go.Figure()
    for name, values, like in (("a", alpha_bars.sqrt(), "z0"), ("b", (1 - alpha_bars).sqrt(), "eps")):
        figure.add_scatter(
            x=timesteps,
            y=values.tolist(),
            name=f"{name}, how much {like}",
            line={"color": LATENT_COLORS[like], "width": 2.5},
            hovertemplate="%{y:.4f}",
        )
    for name, step, side in (("z_s", view.s, "left"), ("z_t", view.t, "right")):
        line = {"color": LATENT_COLORS[name], "width": 2, "dash": "dot"}
        figure.add_vline(x=step, line=line, annotation_text=f"<b>{name[-1]}</b>", annotation_position=f"bottom {side}")
    return styled(figure, "a = cos φ and b = sin φ over t", x_title="timestep t").update_layout(height=HEIGHT)


def _on_circle(angle: float, radius: float = 1.0) -> tuple[float, float]:
    return radius * math.cos(angle), radius * math.sin(angle)


def _line(figure: go.Figure, points: list[tuple[float, float]], color: str, **line) -> None:
    x, y = zip(*points, strict=True)
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": color, **line}, hoverinfo="skip")


def _arrow(figure: go.Figure, name: str, start: tuple[float, float], end: tuple[float, float], where: str) -> None:
    """An arrow with its label at the tip; the label is a trace, so that it answers to the pointer."""
    direction = (end[0] - start[0], end[1] - start[1])
    figure.add_annotation(
        x=end[0],
        y=end[1],
        ax=start[0],
        ay=start[1],
        xref="x",
        yref="y",
        axref="x",
        ayref="y",
        text="",
        showarrow=True,
        arrowhead=2,
        arrowwidth=2.5,
        arrowcolor=LATENT_COLORS[name],
    )
    figure.add_scatter(
        x=[end[0]],
        y=[end[1]],
        mode="markers+text",
        marker={"color": LATENT_COLORS[name], "size": 7},
        text=[f"<b>{_LABELS[name]}</b>"],
        textposition=where,
        textfont={"size": 15},
        name=name,
        hovertemplate=f"{_LABELS[name]} = {direction[0]:.3f} z<sub>0</sub> + {direction[1]:.3f} ε<extra></extra>",
    )
