"""Noise schedules, overlaid."""

from statistics import median

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ldm_explorer.figures.style import SCHEDULE_COLORS, plotted_timesteps, styled
from ldm_explorer.schedules import Schedule


def schedule_figure(schedules: tuple[Schedule, ...]) -> go.Figure:
    """Four panels over t: beta, alpha, abar with the line at one half, and log SNR.

    The cosine schedule ends at beta = 0.999; beta and alpha are shown up to three times the median of the last betas,
    where the schedules can be told apart.
    """
    titles = (
        "beta: noise added in a step (cosine ends at .999)",
        "alpha = 1 - beta: what a step keeps",
        "abar: share of signal variance left",
        "log SNR",
    )
    figure = make_subplots(rows=2, cols=2, subplot_titles=titles, vertical_spacing=0.16, horizontal_spacing=0.09)
    for schedule in schedules:
        timesteps = plotted_timesteps(schedule.num_timesteps)
        curves = (schedule.betas, schedule.alphas, schedule.alpha_bars, schedule.snr.log())
        for panel, values in enumerate(curves):
            figure.add_trace(
                go.Scatter(
                    x=timesteps,
                    y=values[timesteps].tolist(),
                    name=schedule.name,
                    legendgroup=schedule.name,
                    showlegend=panel == 0,
                    line={"color": SCHEDULE_COLORS.get(schedule.name), "width": 2.5},
                    hovertemplate="%{y:.4g}",
                ),
                row=panel // 2 + 1,
                col=panel % 2 + 1,
            )
    figure.add_hline(y=0.5, line={"dash": "dot", "width": 1, "color": "#8C8C8C"}, row=2, col=1)
    figure.update_xaxes(title_text="timestep t", row=2)
    top = 3 * median(float(schedule.betas[-1]) for schedule in schedules)
    figure.update_yaxes(range=[-0.02 * top, top], row=1, col=1)
    figure.update_yaxes(range=[1 - top, 1 + 0.02 * top], row=1, col=2)
    figure.update_annotations(font_size=14)
    return styled(figure, 560)
