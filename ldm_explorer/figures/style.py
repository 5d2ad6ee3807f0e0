"""One colour per thing in every plot (Okabe & Ito 2008, safe for colour-blind people), readable on light and dark."""

from html import escape
from itertools import cycle

import plotly.graph_objects as go

from ldm_explorer.samplers import ALL_SAMPLERS
from ldm_explorer.schedules import FLOW, SCHEDULES

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#7F6FBF")
"""In the order in which things are listed."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
"""Beside the colours: what is told apart by these is told apart in grey, too."""

SCHEDULE_COLORS = dict(zip((*SCHEDULES, FLOW), cycle(COLORS), strict=False))
SCHEDULE_DASHES = dict(zip((*SCHEDULES, FLOW), cycle(DASHES), strict=False))
FLOOR_COLORS = {
    "white": "#CC79A7",
    "gaussian": "#D55E00",
    "gaussian_per_class": "#F0A65E",
    "memorising": "#009E73",
    "memorising_per_class": "#009E73",
}
FLOOR_DASHES = {
    "white": "dot",
    "gaussian": "dash",
    "gaussian_per_class": "dashdot",
    "memorising": "longdash",
    "memorising_per_class": "longdashdot",
}
LOSS_COLOR = "#8FB8DE"
VALIDATION_COLOR = "#5B6FC4"
LATENT_COLORS = {"z0": "#0072B2", "eps": "#D55E00", "z_t": "#009E73", "v": "#CC79A7", "u": "#CC79A7", "z_s": "#E69F00"}
MARKER_COLOR = "#8C8C8C"
REFERENCE_LINE = {"color": MARKER_COLOR, "width": 2, "dash": "dash"}
CHECKPOINT_COLORS = ("#56B4E9", "#B8860B", "#7F6FBF", "#3F7F5F", "#A0522D", "#4F5D75")
SIDE_COLORS = {4: "#0072B2", 8: "#D55E00", 16: "#009E73", 32: "#CC79A7"}
"""By the side of the latent grid."""

SAMPLER_COLORS = dict(zip(ALL_SAMPLERS, cycle(COLORS), strict=False))
STUDENT_COLOR = "#B8860B"
RIGHT_COLOR = "#0072B2"
BROKEN_COLOR = "#D55E00"
MAX_POINTS = 500
HEIGHT = 330

_TEXT = "#72777f"
_GRID = "rgba(128, 128, 128, 0.22)"


def as_text(name: str) -> str:
    """A name from outside, for whatever shows it: plotly reads some HTML in labels, legends, titles and hovers."""
    return escape(name, quote=False)


def plotted_timesteps(num_timesteps: int) -> list[int]:
    """At most about 500 of 0..T-1, the last one among them."""
    return sorted({*range(0, num_timesteps, -(-num_timesteps // MAX_POINTS)), num_timesteps - 1})


def styled(figure: go.Figure, title: str, x_title: str | None = None, hovermode: str = "x unified") -> go.Figure:
    """Transparent ground, quiet grid, title and legend above the plot."""
    figure.update_layout(
        title={"text": title, "font": {"size": 14}, "x": 0, "xref": "paper", "y": 0.98, "yanchor": "top"},
        height=HEIGHT,
        margin={"l": 8, "r": 12, "t": 74, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _TEXT, "size": 12},
        showlegend=True,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0},
        hovermode=hovermode,
        hoverlabel={"bgcolor": "rgba(40,44,52,0.95)", "font": {"color": "#ffffff"}},
    )
    axis = {"gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": _GRID, "automargin": True, "title_font_size": 12}
    figure.update_xaxes(title_text=x_title, **axis)
    figure.update_yaxes(**axis)
    return figure


def label_lines(figure: go.Figure) -> go.Figure:
    """Write the name of every line on it, each further along than the one before, in the place of a legend."""
    lines = [trace for trace in figure.data if trace.name and len(trace.x) > 1]
    for number, trace in enumerate(lines, 1):
        place = len(trace.x) * number // (len(lines) + 1)
        figure.add_annotation(
            x=trace.x[place],
            y=trace.y[place],
            text=f"<b>{trace.name}</b>",
            font={"color": trace.line.color, "size": 13},
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            xshift=6,
        )
    return figure.update_layout(showlegend=False, margin_t=40)


def title_in_legend(figure: go.Figure) -> go.Figure:
    """Put the title on top of the legend, which would cover it where its entries stand in many lines, as on a phone."""
    title = {"text": figure.layout.title.text, "font": {"size": 14}, "side": "top"}
    return figure.update_layout(title=None, legend={"title": title})


def run_colors(indices: list[int]) -> list[str]:
    """The colours of runs by their place in the list of all, told apart where the palette begins again."""
    colors: list[str] = []
    for index in indices:
        while (color := CHECKPOINT_COLORS[index % len(CHECKPOINT_COLORS)]) in colors:
            index += 1
        colors.append(color)
    return colors
