"""The loss of any training, between the floors that make it readable."""

import math

import plotly.graph_objects as go

from ldm_explorer.diagnosis.log_reading import LogReading
from ldm_explorer.figures.loss import CURVE, FLOOR_LABELS, floor_line
from ldm_explorer.figures.style import LOSS_COLOR, REFERENCE_LINE, VALIDATION_COLOR, as_text, styled, title_in_legend
from ldm_explorer.logs.series import Series

DRAWN_POINTS = 400
HEADROOM = 1.3


def log_figure(reading: LogReading) -> go.Figure:
    """The loss as the log has it, divided as its owner said, over its steps; every known floor, and the zero floor
    where the loss is nearer to it than to the white one."""
    figure, curve = go.Figure(), reading.curve
    for series, color, width in ((curve.training, LOSS_COLOR, 1.5), (curve.validation, VALIDATION_COLOR, 3)):
        if series:
            steps, values = _thinned(series, reading.facts.divide_by)
            mode = "lines+markers" if len(steps) < 3 else "lines"
            line = {"color": color, "width": width}
            figure.add_scatter(x=steps, y=values, name=as_text(series.name), line=line, **CURVE | {"mode": mode})
    judged, floors = curve.judged, reading.mean_floors
    ends = [judged.steps[0], judged.steps[-1]]
    if len(judged) == 1:  # between its floors, and not on an axis of one step
        ends = [0, 2 * max(1, judged.steps[0])]
        figure.update_xaxes(range=ends)
    for name, level in floors.items():
        if name in FLOOR_LABELS:
            figure.add_scatter(x=ends, y=[level] * 2, **floor_line(name))
    high = _top(reading)
    if floors and floors["zero"] < high:
        figure.add_scatter(x=ends, y=[floors["zero"]] * 2, name="predicts nothing", line=REFERENCE_LINE, **CURVE)
    figure.update_yaxes(range=[0, high])
    return title_in_legend(styled(figure, "loss (mean squared error)", x_title="step of the log"))


def _top(reading: LogReading) -> float:
    """A height that shows the end of the loss and the floors, whatever it began with."""
    ended = reading.plateau.value if reading.plateau else 0.0
    return HEADROOM * max(ended, reading.mean_floors.get("white", 0.0), 1e-9)


def _thinned(series: Series, divide_by: float) -> tuple[list[float], list[float]]:
    """At most 400 points, each the mean of as many in a row; what is no number is left out."""
    pairs = [pair for pair in zip(series.steps, series.values, strict=True) if math.isfinite(pair[1])]
    size = -(-len(pairs) // DRAWN_POINTS) or 1
    groups = [pairs[place : place + size] for place in range(0, len(pairs), size)]
    steps = [group[-1][0] for group in groups]
    return steps, [sum(value for _, value in group) / len(group) / divide_by for group in groups]
