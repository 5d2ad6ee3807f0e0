"""Everything that a training logs, over the images it has seen: rows below one another on one axis."""

import math
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ldm_explorer.explore.training_run import PER_BIN, VALIDATION, Curve, RunReport, span_of
from ldm_explorer.figures.loss import CURVE, FLOOR_LABELS, drawn_floors, floor_line
from ldm_explorer.figures.style import (
    LOSS_COLOR,
    VALIDATION_COLOR,
    as_text,
    run_colors,
    styled,
    title_in_legend,
)

LOSS_HEIGHT, MAP_HEIGHT, ROW_HEIGHT, GAP = 260, 190, 90, 44
TOP_MARGIN, BOTTOM_MARGIN = 78, 40
FIELDS = {
    "kl_per_value": "KL per latent value, in nats",
    "validation_psnr_db": "PSNR on held-out images, in dB",
    "grad_norm": "gradient norm, log scale (dotted: clipped to)",
    "learning_rate": "learning rate",
}
RATIO_COLORS = ((0, "#0072B2"), (0.5, "#EDEDED"), (1, "#D55E00"))
RATIOS = (0.7, 0.8, 1, 1.2, 1.5)
FULL_RATIO = 1.5
MAX_TICKS_OF_ROW = 4
_FEW_POINTS = 3


def training_figure(reports: tuple[RunReport, ...]) -> go.Figure:
    """The logs of one run or two: loss, the first one's validation loss per timestep, gradient norm, and so on."""
    first, colors = reports[0], _colors(reports)
    fields = [field for field in FIELDS if field in first.fields]
    has_map = PER_BIN in first.fields
    heights = [LOSS_HEIGHT, *[MAP_HEIGHT] * has_map, *[ROW_HEIGHT] * len(fields)]
    titles = ["", *[_map_title(reports)] * has_map, *[FIELDS[field] for field in fields]]
    total = sum(heights) + GAP * (len(heights) - 1)
    figure = make_subplots(
        len(heights),
        1,
        shared_xaxes=True,
        row_heights=heights,
        vertical_spacing=GAP / total,
        subplot_titles=titles,
    )
    styled(figure, "loss, log scale" if first.is_autoencoder else "loss (mean squared error)")
    _add_losses(figure, reports, colors)
    if has_map:
        _add_map(figure, first)
    for row, field in enumerate(fields, start=2 + has_map):
        _add_field(figure, row, field, reports, colors)
    _lay_out(figure, total, reports)
    return figure


def _colors(reports: tuple[RunReport, ...]) -> list[tuple[str, str]]:
    """For training and for validation: two of the loss's own for a run alone, one for each of two."""
    if len(reports) == 1:
        return [(LOSS_COLOR, VALIDATION_COLOR)]
    return [(color, color) for color in run_colors([report.run.color_index for report in reports])]


def _add_losses(figure: go.Figure, reports: tuple[RunReport, ...], colors: list[tuple[str, str]]) -> None:
    alone = len(reports) == 1
    for report, (training_color, color) in zip(reports, colors, strict=True):
        name = "" if alone else f"{as_text(report.run.name)}: "
        line = {"color": training_color, "width": 1}
        _add(figure, 1, report.curve("loss"), f"{name}training", line, showlegend=alone, opacity=1 if alone else 0.6)
        if report.is_autoencoder and alone:
            dotted = line | {"dash": "dot", "width": 2}
            _add(figure, 1, report.curve("mse"), "squared error alone", dotted)
        line = {"color": color, "width": 3}
        _add(figure, 1, report.curve(VALIDATION), f"{name}validation" if alone else as_text(report.run.name), line)
        for floor in drawn_floors(report, alone):
            trace = floor_line(floor)
            if not alone:
                trace |= {"name": f"{name}{FLOOR_LABELS[floor]}", "line": trace["line"] | {"color": color}}
            figure.add_scatter(x=_span(reports), y=[report.mean_floors[floor]] * 2, row=1, col=1, **trace)
    if reports[0].is_autoencoder:
        figure.update_yaxes(type="log", dtick=1, tickformat="~g", row=1)
    else:
        figure.update_yaxes(range=[0, 1.1 * max(_top(report) for report in reports)], row=1)


def _top(report: RunReport) -> float:
    """A height that shows floors and losses, also of a training that fell apart."""
    training, validation = ([v for v in report.curve(name).values if math.isfinite(v)] for name in ("loss", VALIDATION))
    floor = report.mean_floors.get("white", max(training, default=1))
    return max(floor, min(validation, default=0))


def _add(figure: go.Figure, row: int, curve: Curve, name: str, line: dict, **options) -> None:
    mode = "lines+markers" if len(curve.images) < _FEW_POINTS else "lines"
    options = CURVE | {"mode": mode, "hovertemplate": "%{y:.3g}"} | options
    figure.add_scatter(x=curve.images, y=curve.values, name=name, line=line, row=row, col=1, **options)


def _add_field(
    figure: go.Figure, row: int, field: str, reports: tuple[RunReport, ...], colors: list[tuple[str, str]]
) -> None:
    for report, (training_color, color) in zip(reports, colors, strict=True):
        for key, of, line in (
            (field, "", {"color": color, "width": 1.5}),
            (f"validation_{field}", "validation, ", {"color": color, "width": 3}),
        ):
            if key in report.fields:
                _add(figure, row, report.curve(key), f"{of}{as_text(report.run.name)}", line, showlegend=False)
        if field == "grad_norm" and "grad_clip_norm" in report.config:
            line = {"color": training_color, "width": 1.5, "dash": "dot"}
            curve = Curve(tuple(_span(reports)), (report.config["grad_clip_norm"],) * 2)
            _add(figure, row, curve, "clipped to", line, showlegend=False, mode="lines")
    if field == "grad_norm":
        norms = [norm for report in reports for norm in report.curve(field).values if 0 < norm < math.inf]
        ticks = _log_ticks(min(norms, default=1), max(norms, default=1))
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks], row=row)


def _log_ticks(low: float, high: float) -> list[float]:
    """Few enough of the round numbers between two for a row: plotly's own overlap there."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = list[float]()
    for heads, stride in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 4), ((1,), 8)):
        all_ticks = [float(f"{head}e{power}") for power in powers if power % stride == 0 for head in heads]
        ticks = [tick for tick in all_ticks if low <= tick <= high]
        if len(ticks) <= MAX_TICKS_OF_ROW:
            break
    return ticks or [float(f"{math.sqrt(low * high):.2g}")]


def _map_title(reports: tuple[RunReport, ...]) -> str:
    """What the colours of the map mean."""
    whose = "" if len(reports) == 1 else f", {as_text(reports[0].run.name)}"
    if reports[0].gaussian_floor:
        return f"loss at timestep t / {FLOOR_LABELS[reports[0].gaussian_floor]}{whose}"
    return f"loss at timestep t{whose}"


def _add_map(figure: go.Figure, report: RunReport) -> None:
    """Validation loss per timestep over training: as a ratio to the Gaussian floor, blue below and orange above it."""
    validations = report.records_with(PER_BIN)
    bins = len(validations[-1][PER_BIN])
    losses = [[record[PER_BIN][index] for record in validations] for index in range(bins)]
    width = report.num_timesteps / bins
    gaussian = report.gaussian_floor
    floors = report.reading.floors_per_bin()[gaussian] if report.reading and gaussian else []
    y_axis = figure.layout.yaxis2
    bar = {"thickness": 10, "xpad": 4, "len": y_axis.domain[1] - y_axis.domain[0], "y": sum(y_axis.domain) / 2}
    trace: dict[str, Any] = {
        "customdata": losses,
        "hovertemplate": "t near %{y:.0f}: loss %{customdata:.3f}<extra></extra>",
    }
    if floors:
        ratios = [
            [math.log2(max(loss, 1e-9) / floor) for loss in row] for row, floor in zip(losses, floors, strict=True)
        ]
        bar |= {"tickvals": [math.log2(ratio) for ratio in RATIOS], "ticktext": [f"{ratio:g}" for ratio in RATIOS]}
        trace |= {
            "z": ratios,
            "zmin": -math.log2(FULL_RATIO),
            "zmax": math.log2(FULL_RATIO),
            "colorscale": RATIO_COLORS,
        }
    else:
        trace |= {"z": losses, "zmin": 0, "colorscale": "Cividis"}
    figure.add_heatmap(
        x=[record["images"] for record in validations],
        y=[(index + 0.5) * width for index in range(bins)],
        colorbar=bar,
        row=2,
        col=1,
        **trace,
    )
    figure.update_yaxes(range=[0, report.num_timesteps], row=2)


def _span(reports: tuple[RunReport, ...]) -> list[int]:
    """From the first of all runs to the last."""
    starts, ends = zip(*(span_of(report) for report in reports), strict=True)
    return [min(starts), max(ends)]


def _short(number: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number // size}{letter}"
    return str(number)


def _lay_out(figure: go.Figure, total: float, reports: tuple[RunReport, ...]) -> None:
    start, end = _span(reports)
    height = total + TOP_MARGIN + BOTTOM_MARGIN
    figure.update_layout(height=height, margin={"t": TOP_MARGIN, "b": BOTTOM_MARGIN})
    title_in_legend(figure)
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    ticks = [head * 10**power for power in range(12) for head in (1, 3) if start <= head * 10**power <= end]
    figure.update_xaxes(type="log", range=[math.log10(start), math.log10(end)], hoverformat=",")
    figure.update_xaxes(tickvals=ticks, ticktext=[_short(tick) for tick in ticks])
    figure.update_xaxes(title_text="images seen, log scale", row=len(figure.layout.annotations) + 1)
