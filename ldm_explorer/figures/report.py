"""The loss of a report that did not know its floors."""

import plotly.graph_objects as go

from ldm_explorer.explore.report import REPORTED_LOSS, Stage, WhiteFloorCurve
from ldm_explorer.figures.style import CHECKPOINT_COLORS, SCHEDULE_COLORS, styled

_DASHES = ("dot", "solid")


def scale_figure(curves: tuple[WhiteFloorCurve, ...]) -> go.Figure:
    """White epsilon floor over the latents' scale, and where it is the reported loss."""
    figure = go.Figure()
    lengths = sorted({curve.num_timesteps for curve in curves})
    for curve in curves:
        figure.add_scatter(
            x=curve.stds,
            y=curve.floors,
            name=f"{curve.schedule}, T = {curve.num_timesteps}",
            line={"color": SCHEDULE_COLORS[curve.schedule], "dash": _DASHES[lengths.index(curve.num_timesteps)]},
            hovertemplate="std %{x:.2f}: %{y:.3f}",
        )
    figure.add_hline(y=REPORTED_LOSS, line={"dash": "dash", "width": 1.5, "color": "#8C8C8C"})
    figure.update_xaxes(type="log", dtick=1)
    figure.update_yaxes(range=[0, 1])
    title = f"white epsilon floor: where it is {REPORTED_LOSS}"
    return styled(figure, title, x_title="standard deviation of the latents", hovermode="closest")


def stages_figure(stages: tuple[Stage, ...]) -> go.Figure:
    """Validation loss of the runs that predict epsilon, each with its own white and Gaussian floor."""
    figure = go.Figure()
    for stage, color in zip(stages, CHECKPOINT_COLORS, strict=False):
        reading = stage.reading
        if reading.prediction_type != "epsilon":
            continue
        options = {"legendgroup": stage.name, "hovertemplate": "%{y:.3f}"}
        figure.add_scatter(
            x=reading.validation_images,
            y=reading.validation_loss,
            name=stage.title,
            mode="lines",
            line={"color": color, "width": 3},
            **options,
        )
        ends = [0, reading.images[-1]]
        for floor, dash in (("white", "dash"), ("gaussian", "dot")):
            figure.add_scatter(
                x=ends,
                y=[reading.mean_floors[floor]] * 2,
                name=f"its {floor} floor",
                mode="lines",
                showlegend=False,
                line={"color": color, "dash": dash, "width": 1.5},
                **options,
            )
    figure.update_yaxes(rangemode="tozero")
    return styled(figure, "epsilon loss; dashed: white floor, dotted: Gaussian", x_title="images seen")
