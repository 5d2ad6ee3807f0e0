"""The measures of continuity and of the latent's use, each in a small figure of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ldm_explorer.explore.size_figures import MEASURES, SizeFigures
from ldm_explorer.figures.latent_size import whiskers
from ldm_explorer.figures.style import MARKER_COLOR, SIDE_COLORS, as_text, styled

SMALL_HEIGHT = 270
KL_ROW_HEIGHT, KL_GAP = 92, 40
KL_MEASURES = ("psnr_db", "rfd_percent", "ifd_percent", "active_units", "stretch_variation")
KL_LOG = ("rfd_percent", "ifd_percent")
KL_COLOR = SIDE_COLORS[8]


@dataclass(frozen=True)
class Panel:
    """One small figure: what it is called, how it is read, and which measures stand in it."""

    title: str
    reading: str
    measures: dict[str, str]  # to their names in the legend
    references: dict[str, str]  # what makes them readable, drawn as a dash
    log: bool = False

    @property
    def columns(self) -> list[str]:
        return [*self.measures, *self.references]


PANELS = {
    "interpolated-fd": Panel(
        "Decoded midpoints: iFD",
        "Feature FD of images decoded half-way between two latents. The nearer to rFD, of the images themselves, the "
        "more a midpoint looks like a real image; between random pairs it rarely does. What is above rFD is compared.",
        {"ifd_percent": "nearest pairs", "ifd_random_percent": "random pairs"},
        {"rfd_percent": "rFD"},
        log=True,
    ),
    "high-share": Panel(
        "Spectrum: fine detail",
        "Share of the latents' power in their high frequencies. Far above that of the images at this side, there is "
        "detail in the latents that images do not have; smoother is not always better.",
        {"high_share": "latents"},
        {"high_share_of_images": "images at this side"},
    ),
    "flatness": Panel(
        "Spectrum: flatness",
        "1 is white noise, where no value says anything about its neighbours; near 0, a few slow waves hold nearly "
        "all of the power.",
        {"flatness": "latents"},
        {"flatness_of_images": "images at this side"},
    ),
    "turn-error": Panel(
        "Equivariance: quarter turns",
        "Turn the image, and does its latent turn with it? 0: it does; 2: it becomes the latent of another image.",
        {"turn_error": "latents"},
        {},
    ),
    "half-scale": Panel(
        "Equivariance: half the scale",
        "Error of the image decoded from a latent at half its side. The dash is the blur of the autoencoder alone: the "
        "nearer to it, the more a smaller latent is a smaller image.",
        {"half_scale_mse": "MSE"},
        {"half_scale_floor_mse": "blur alone"},
        log=True,
    ),
    "path": Panel(
        "Path between two images",
        "On the straight line between two latents: 1 would be a cross-fade, in even steps. Longer paths detour through "
        "other images; a large largest step is a jump.",
        {"length_over_chord": "length over chord", "largest_step_over_mean": "largest over mean step"},
        {},
    ),
    "stretch": Panel(
        "How evenly the decoder stretches",
        "How differently far images move when latents move equally far (standard deviation over mean): 0 is everywhere "
        "alike.",
        {"stretch_variation": "variation"},
        {},
    ),
    "kl": Panel(
        "Information per value",
        "KL from the standard normal in nats: at most so much a value says about the image. 0 is nothing but noise.",
        {"kl_per_value": "KL per value"},
        {},
    ),
    "active-units": Panel(
        "Active units",
        "Share of the values that change from image to image at all; the others are wasted.",
        {"active_units": "share"},
        {},
    ),
}


def panel_figure(panel: Panel, figures: Sequence[SizeFigures], spread: dict[str, float]) -> go.Figure:
    """The checkpoints side by side, in the colours of their sides; in the legend the symbols are grey."""
    figure = go.Figure()
    labels = [as_text(item.label) for item in figures]
    colors = [SIDE_COLORS.get(item.size.side, MARKER_COLOR) for item in figures]
    for (measure, name), symbol in zip(panel.measures.items(), ("circle", "diamond"), strict=False):
        symbols = [symbol if item.size.compresses else f"{symbol}-open" for item in figures]
        _add(figure, labels, [item.get(measure) for item in figures], name, symbols, colors)
        whisker = whiskers(figures, measure, spread) | {"color": MARKER_COLOR}
        figure.data[-1].update(error_y=whisker, showlegend=False)
        _add(figure, [None], [None], name, symbol, MARKER_COLOR)
    for measure, name in panel.references.items():
        values = [item.get(measure) for item in figures]
        _add(figure, labels, values, name, "line-ew-open", MARKER_COLOR, size=16)
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


def kl_figure(row: Sequence[SizeFigures], spread: dict[str, float]) -> go.Figure:
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
