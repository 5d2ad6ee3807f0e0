"""Reconstruction, generation and cost over the number of values: the answer in one figure."""

from collections.abc import Sequence
from math import log10
from operator import itemgetter

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ldm_explorer.evaluation.measures import MEASURES
from ldm_explorer.explore.size_measures import SizeMeasures, spread_around
from ldm_explorer.figures.style import MARKER_COLOR, REFERENCE_LINE, SIDE_COLORS, as_text, styled

ROWS = {"psnr_db": "Reconstruction: ", "fd_percent": "Generation: ", "gflops_per_image": ""}
"""Measures, and what comes before their titles."""
ROW_HEIGHTS, GAP, TOP, BOTTOM = (134, 88, 68), 30, 24, 40
ROUND_NUMBERS = [factor * 10.0**power for power in range(-3, 5) for factor in (1, 2, 3, 5, 7)]
SYMBOLS = dict(zip(SIDE_COLORS, ("circle", "square", "diamond", "triangle-up"), strict=True))


def answer_figure(sizes: Sequence[SizeMeasures], spread: dict[str, float]) -> go.Figure:
    """Three rows over one axis. Points of one side have one colour and symbol, open where nothing is compressed; lines
    join the family's; whiskers are the spread of training seeds, for FD else of sampling seeds. Everything has its name
    beside it, so there is no legend, which would take a third of a phone. The ids of points name their checkpoints."""
    total = sum(ROW_HEIGHTS) + (len(ROWS) - 1) * GAP
    titles = [f"{words}{MEASURES[name].in_units}, {MEASURES[name].goal}" for name, words in ROWS.items()]
    known = [any(item.get(name) is not None for item in sizes) for name in ROWS]
    titles = [
        title[0].upper() + title[1:] + ("" if is_known else ": not measured")
        for title, is_known in zip(titles, known, strict=True)
    ]
    places = {"row_heights": ROW_HEIGHTS, "vertical_spacing": GAP / total, "subplot_titles": titles}
    figure = make_subplots(len(ROWS), 1, shared_xaxes=True, **places)
    styled(figure, "", hovermode="closest")
    for row, measure in enumerate(ROWS, 1):
        for side in sorted({item.size.side for item in sizes}):
            points = [item for item in sizes if item.size.side == side]
            if any(item.get(measure) is not None for item in points):
                _add_side(figure, row, side, points, measure, spread, _label_places(sizes, measure))
    _add_references(figure, sizes)
    _lay_out(figure, sizes, total)
    return figure


def whiskers(sizes: Sequence[SizeMeasures], measure: str, spread: dict[str, float]) -> dict:
    """Plotly's `error_y`: as long as the spread in all, so half of it up and down; nothing where it is not known."""

    def half(item: SizeMeasures) -> float | None:
        value = item.get(measure)
        if value is not None and measure in spread:
            return spread_around(measure, value, spread[measure]) / 2
        of_samples = item.get(f"{measure}_spread")
        return None if value is None or of_samples is None else of_samples / 2

    return {"type": "data", "array": [half(item) or 0 for item in sizes], "thickness": 1.5, "width": 4}


def _label_places(sizes: Sequence[SizeMeasures], measure: str) -> dict[str, str]:
    """Where a label stands, so that those of as many values do not cover one another; one point per shape has one."""
    places, most = {}, max(item.size.values for item in sizes)
    for values in {item.size.values for item in sizes}:
        of_shapes = {}
        for item in sorted(sizes, key=lambda item: item.of_its_shape):
            if item.size.values == values and (height := item.get(measure)) is not None:
                of_shapes[item.size.shape] = height, item
        here = [item for _, item in sorted(of_shapes.values(), key=itemgetter(0))]
        side = "left" if values == most else "right"  # the last one's would leave the plot
        for index, item in enumerate(here):
            place = "top" if index == len(here) - 1 else "bottom" if index == 0 else "middle"
            places[item.name] = f"{place} {side}"
    return places


def _add_side(
    figure: go.Figure,
    row: int,
    side: int,
    points: list[SizeMeasures],
    measure: str,
    spread: dict[str, float],
    places: dict[str, str],
) -> None:
    """The family's points on a line, then the others, smaller; all have their names where one points at them."""
    color = SIDE_COLORS.get(side, MARKER_COLOR)
    for of_its_shape in (True, False):
        items = [item for item in points if item.of_its_shape == of_its_shape and item.get(measure) is not None]
        if not items:
            continue
        figure.add_scatter(
            x=[item.size.values for item in items],
            y=[item.get(measure) for item in items],
            name=f"side {side}",
            mode="lines+markers+text" if of_its_shape else "markers+text",
            text=[item.size.shape if item.name in places else "" for item in items],
            textposition=[places.get(item.name, "top center") for item in items],
            textfont={"size": 11},
            cliponaxis=False,
            line={"color": color, "width": 1.5},
            marker=_marker(items, side) | {"color": color},
            error_y=whiskers(items, measure, spread) | {"color": color},
            customdata=[as_text(item.name) for item in items],
            ids=[item.name for item in items],
            hovertemplate="%{customdata}: %{y:.3g}<extra></extra>",
            row=row,
            col=1,
        )


def _marker(items: list[SizeMeasures], side: int) -> dict:
    symbol = SYMBOLS.get(side, "circle")
    open_or_not = [symbol if item.size.compresses else f"{symbol}-open" for item in items]
    return {"symbol": open_or_not, "size": [11 if item.of_its_shape else 8 for item in items], "line_width": 2}


def _add_references(figure: go.Figure, sizes: Sequence[SizeMeasures]) -> None:
    """PCA of as many values in the first row, the floor of FD in the second."""
    pca = {item.size.values: item.get("pca_psnr_db") for item in sizes if item.get("pca_psnr_db") is not None}
    pca_label, floor_label = MEASURES["pca_psnr_db"].label, MEASURES["fd_floor_percent"].label
    options = {"hovertemplate": "%{y:.3g}", "textfont": {"size": 11}, "cliponaxis": False, "col": 1}
    if pca:
        values = sorted(pca)
        mode = "lines+text" if len(values) > 1 else "markers+text"
        text = {"mode": mode, "text": [*[""] * (len(values) - 1), pca_label], "textposition": "middle right"}
        heights = [pca[value] for value in values]
        figure.add_scatter(x=values, y=heights, name=pca_label, line=REFERENCE_LINE, row=1, **text, **options)
    floors = [item.get("fd_floor_percent") for item in sizes if item.get("fd_floor_percent") is not None]
    if floors:
        ends = [min(item.size.values for item in sizes), max(item.size.values for item in sizes)]
        text = {"mode": "lines+text", "text": [floor_label], "textposition": "top right"}
        line = REFERENCE_LINE | {"dash": "dot"}
        figure.add_scatter(x=ends, y=[floors[0]] * 2, name=floor_label, line=line, row=2, **text, **options)


def _lay_out(figure: go.Figure, sizes: Sequence[SizeMeasures], total: int) -> None:
    values, pixels = sorted({item.size.values for item in sizes}), sizes[0].size.pixels
    margin = {"t": TOP, "b": BOTTOM, "r": 20}
    figure.update_layout(title=None, height=total + TOP + BOTTOM, margin=margin, showlegend=False)
    ticks = {"tickvals": values, "ticktext": [f"{value:,}" for value in values]}
    figure.update_xaxes(type="log", range=[log10(values[0] / 1.5), log10(values[-1] * 1.5)], **ticks)
    figure.update_xaxes(title_text="values in the latent", row=len(ROWS), col=1)
    figure.update_yaxes(rangemode="tozero", row=2, col=1)
    figure.update_yaxes(type="log", tickvals=ROUND_NUMBERS, row=3, col=1)
    if costs := [cost for item in sizes if (cost := item.get("gflops_per_image"))]:  # of one, Plotly shows two decades
        figure.update_yaxes(range=[log10(min(costs) / 1.5), log10(max(costs) * 1.5)], row=3, col=1)
    figure.update_annotations(x=0, xanchor="left", font={"size": 13}, yshift=4)
    if values[-1] >= pixels:
        figure.add_vline(pixels, line=REFERENCE_LINE | {"width": 1})
        label = {"text": f"{pixels} pixels", "showarrow": False, "xanchor": "right", "yanchor": "bottom", "xshift": -3}
        figure.add_annotation(x=log10(pixels), y=0, yref="y domain", xref="x", **label)
