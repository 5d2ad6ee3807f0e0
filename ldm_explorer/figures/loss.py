"""A loss that can be read: beside what knowing the scale, the covariance or the class's covariance would reach."""

import plotly.graph_objects as go

from ldm_explorer.diagnosis.reading import LossReading
from ldm_explorer.figures.style import FLOOR_COLORS, LOSS_COLOR, VALIDATION_COLOR, plotted_timesteps, styled

FLOOR_LABELS = {
    "white": "white floor",
    "gaussian": "Gaussian floor",
    "gaussian_per_class": "Gaussian floor of the class",
}
_CURVE = {"mode": "lines", "hovertemplate": "%{y:.3f}"}
_FEW_POINTS = 3


def training_figure(reading: LossReading) -> go.Figure:
    """Training and validation loss over images seen, and the floors."""
    figure = go.Figure()
    figure.add_scatter(
        x=reading.images, y=reading.loss, name="training", line={"color": LOSS_COLOR, "width": 1}, **_CURVE
    )
    figure.add_scatter(x=reading.validation_images, y=reading.validation_loss, **_validation())
    for name, mean in reading.mean_floors.items():
        if name in FLOOR_LABELS:
            figure.add_scatter(x=[0, max(reading.images)], y=[mean] * 2, **_floor(name))
    figure.update_yaxes(range=[0, 1.1 * max(reading.mean_floors["white"], reading.validation_minimum)])
    if len(reading.validation_loss) < _FEW_POINTS:
        figure.update_traces(mode="lines+markers")
    return styled(figure, "loss (mean squared error) over training", x_title="images seen")


def timestep_figure(reading: LossReading) -> go.Figure:
    """The last validation loss per timestep, and the floors."""
    bins, length = len(reading.validation_per_bin), len(reading.floors["white"])
    centres = [(index + 0.5) * length / bins for index in range(bins)]
    figure = go.Figure()
    figure.add_scatter(x=centres, y=reading.validation_per_bin, **_validation())
    timesteps = plotted_timesteps(length)
    for name, floor in reading.floors.items():
        if name in FLOOR_LABELS:
            figure.add_scatter(x=timesteps, y=floor[timesteps].tolist(), **_floor(name))
    figure.update_yaxes(rangemode="tozero")
    return styled(figure, "validation loss per timestep, at the end", x_title="timestep t")


def _validation() -> dict:
    return {"name": "validation", "line": {"color": VALIDATION_COLOR, "width": 3}, **_CURVE}


def _floor(name: str) -> dict:
    line = {"color": FLOOR_COLORS[name], "width": 2, "dash": "dash"}
    return {"name": FLOOR_LABELS[name], "line": line, **_CURVE}
