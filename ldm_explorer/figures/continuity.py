"""The measures of continuity and of the latent's use, each in a small figure of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ldm_explorer.evaluation.measures import MEASURES, on_their_own
from ldm_explorer.explore.size_measures import SizeMeasures
from ldm_explorer.figures.latent_size import whiskers
from ldm_explorer.figures.style import MARKER_COLOR, SIDE_COLORS, as_text, styled

SMALL_HEIGHT = 270
KL_ROW_HEIGHT, KL_GAP = 92, 40
KL_MEASURES = ("psnr_db", "rfd_percent", "ifd_percent", "active_units", "stretch_variation")
KL_LOG = ("rfd_percent", "ifd_percent")
KL_COLOR = SIDE_COLORS[8]


@dataclass(frozen=True)
class Panel:
    """One small figure: what it asks, and which measures stand in it."""

    title: str
    measures: tuple[str, ...]
    log: bool = False

    @property
    def reading(self) -> str:
        """How its measures are read."""
        return " ".join(MEASURES[name].definition for name in self.measures)

    @property
    def references(self) -> tuple[str, ...]:
        """What makes them readable, drawn as a dash."""
        return tuple(dict.fromkeys(name for measure in self.measures for name in MEASURES[measure].beside))

    @property
    def columns(self) -> tuple[str, ...]:
        return *self.measures, *self.references


PANELS = {
    "interpolated-fd": Panel("Decoded midpoints: iFD", ("ifd_percent", "ifd_random_percent"), log=True),
    "high-share": Panel("Spectrum: fine detail", ("high_share",)),
    "flatness": Panel("Spectrum: flatness", ("flatness",)),
    "turn-error": Panel("Equivariance: quarter turns", ("turn_error",)),
    "half-scale": Panel("Equivariance: half the scale", ("half_scale_mse",), log=True),
    "path": Panel("Path between two images", ("length_over_chord", "largest_step_over_mean")),
    "stretch": Panel("How evenly the decoder stretches", ("stretch_variation",)),
    "kl": Panel("Information per value", ("kl_per_value",)),
    "active-units": Panel("Active units", ("active_units",)),
}
PANELS |= {
    measure.name.replace("_", "-"): Panel(measure.title, (measure.name,))
    for measure in on_their_own(("continuity", "latent_space"))
    if not any(measure.name in panel.measures for panel in tuple(PANELS.values()))
}
"""Those that have a title of their own, and one for each further measure."""


def panel_figure(panel: Panel, sizes: Sequence[SizeMeasures], spread: dict[str, float]) -> go.Figure:
    """The checkpoints side by side, in the colours of their sides; in the legend the symbols are grey."""
    figure = go.Figure()
    labels = [as_text(item.label) for item in sizes]
    colors = [SIDE_COLORS.get(item.size.side, MARKER_COLOR) for item in sizes]
    for measure, symbol in zip(panel.measures, ("circle", "diamond"), strict=False):
        name = MEASURES[measure].title
        symbols = [symbol if item.size.compresses else f"{symbol}-open" for item in sizes]
        _add(figure, labels, [item.get(measure) for item in sizes], name, symbols, colors)
        whisker = whiskers(sizes, measure, spread) | {"color": MARKER_COLOR}
        figure.data[-1].update(error_y=whisker, showlegend=False)
        _add(figure, [None], [None], name, symbol, MARKER_COLOR)
    for measure in panel.references:
        values = [item.get(measure) for item in sizes]
        _add(figure, labels, values, MEASURES[measure].label, "line-ew-open", MARKER_COLOR, size=16)
    styled(figure, "", hovermode="closest")
    several = len(panel.columns) > 1
    figure.update_layout(height=SMALL_HEIGHT, title=None, margin={"t": 34 if several else 12}, showlegend=several)
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=labels)
    figure.update_yaxes(**({"type": "log", "dtick": 1} if panel.log else {"rangemode": "tozero"}))
    return figure


def _add(
    figure: go.Figure, labels: Sequence[str | None], values: list, name: str, symbols, colors, size: int = 10
) -> None:
    figure.add_scatter(
        x=labels,
        y=values,
        name=name,
        mode="markers",
        marker={"symbol": symbols, "color": colors, "size": size, "line": {"width": 2, "color": colors}},
        hovertemplate="%{x}: %{y:.3g}",
    )


def kl_figure(row: Sequence[SizeMeasures], spread: dict[str, float]) -> go.Figure:
    """What the weight of the KL term changes, from almost none on: rows below one another on one axis."""
    titles = [f"{MEASURES[name].title}{', ' * bool(MEASURES[name].unit)}{MEASURES[name].unit}" for name in KL_MEASURES]
    total = len(KL_MEASURES) * KL_ROW_HEIGHT + (len(KL_MEASURES) - 1) * KL_GAP
    figure = make_subplots(
        len(KL_MEASURES), 1, shared_xaxes=True, vertical_spacing=KL_GAP / total, subplot_titles=titles
    )
    for number, measure in enumerate(KL_MEASURES, 1):
        figure.add_scatter(
            x=[f"{item.kl_weight:g}" for item in row],
            y=[item.get(measure) for item in row],
            name=MEASURES[measure].title,
            mode="lines+markers",
            line={"color": KL_COLOR},
            marker={"size": 9},
            error_y=whiskers(row, measure, spread) | {"color": KL_COLOR},
            hovertemplate="weight %{x}: %{y:.3g}",
            row=number,
            col=1,
        )
    styled(figure, "", hovermode="closest").update_layout(
        height=total + 90, title=None, margin={"t": 40, "b": 48}, showlegend=False
    )
    figure.update_xaxes(type="category")  # a weight of 0 has a place, too
    figure.update_xaxes(title_text="weight of the KL term", row=len(KL_MEASURES), col=1)
    figure.update_yaxes(rangemode="tozero")
    for measure in KL_LOG:
        figure.update_yaxes(type="log", dtick=1, row=KL_MEASURES.index(measure) + 1, col=1)
    return figure.update_annotations(x=0, xanchor="left", font={"size": 13}, yshift=4)
