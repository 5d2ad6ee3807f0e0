"""A loss that can be read: beside what knowing nothing, the scale or the covariance would reach."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ldm_explorer.diagnosis.reading import LossReading
from ldm_explorer.figures.style import FLOOR_COLORS, LOSS_COLOR, VALIDATION_COLOR, plotted_timesteps, styled

FLOOR_LABELS = {
    "white": "white floor: knows the scale",
    "gaussian": "Gaussian floor: knows the covariance",
    "gaussian_per_class": "Gaussian floor of the class",
}


def loss_figure(reading: LossReading) -> go.Figure:
    """Left: loss over images seen. Right: the last validation loss per timestep. The floors are in both."""
    titles = ("loss over training", "validation loss per timestep, at the end")
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.09)
    curve = {"mode": "lines", "hovertemplate": "%{y:.3f}"}
    figure.add_trace(
        go.Scatter(x=reading.images, y=reading.loss, name="training", line={"color": LOSS_COLOR, "width": 1}, **curve)
    )
    validation = {"name": "validation", "legendgroup": "validation"}
    line = {"color": VALIDATION_COLOR, "width": 3}
    figure.add_trace(
        go.Scatter(x=reading.validation_images, y=reading.validation_loss, line=line, **validation, **curve)
    )
    bins, length = len(reading.validation_per_bin), len(reading.floors["white"])
    centres = [(index + 0.5) * length / bins for index in range(bins)]
    figure.add_trace(
        go.Scatter(x=centres, y=reading.validation_per_bin, line=line, showlegend=False, **validation, **curve), 1, 2
    )
    timesteps = plotted_timesteps(length)
    for name, floor in reading.floors.items():
        if not (label := FLOOR_LABELS.get(name)):
            continue
        style = {"line": {"color": FLOOR_COLORS[name], "width": 2, "dash": "dash"}, "name": label, "legendgroup": name}
        ends = [0, max(reading.images)]
        figure.add_trace(go.Scatter(x=ends, y=[reading.mean_floors[name]] * 2, **style, **curve))
        y = floor[timesteps].tolist()
        figure.add_trace(go.Scatter(x=timesteps, y=y, showlegend=False, **style, **curve), 1, 2)
    figure.update_xaxes(title_text="images seen", row=1, col=1)
    figure.update_xaxes(title_text="timestep t", row=1, col=2)
    figure.update_yaxes(title_text="mean squared error", row=1, col=1, range=[0, 1.1 * reading.mean_floors["white"]])
    figure.update_annotations(font_size=14)
    return styled(figure, 380)
