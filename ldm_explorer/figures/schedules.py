"""Noise schedules, overlaid."""

from dataclasses import dataclass
from statistics import median

import plotly.graph_objects as go

from ldm_explorer.figures.style import SCHEDULE_COLORS, SCHEDULE_DASHES, label_lines, plotted_timesteps, styled
from ldm_explorer.schedules import BetaSchedule


@dataclass(frozen=True)
class ScheduleFigures:
    """beta, alpha, abar and log SNR over t; every schedule is in each."""

    beta: go.Figure
    alpha: go.Figure
    alpha_bar: go.Figure
    log_snr: go.Figure


def schedule_figures(schedules: tuple[BetaSchedule, ...]) -> ScheduleFigures:
    """Four plots of the schedules' own tensors.

    The cosine schedule ends at beta = 0.999; beta and alpha are shown up to three times the median of the last betas,
    where the schedules can be told apart.
    """
    top = 3 * median(float(schedule.betas[-1]) for schedule in schedules)
    beta = _overlay("beta: noise per step (cosine: up to .999)", schedules, lambda s: s.betas)
    alpha = _overlay("alpha = 1 - beta: what a step keeps", schedules, lambda s: s.alphas)
    alpha_bar = _overlay("abar: share of signal variance left", schedules, lambda s: s.alpha_bars)
    beta.update_yaxes(range=[-0.02 * top, top])
    alpha.update_yaxes(range=[1 - top, 1 + 0.02 * top])
    alpha_bar.add_hline(y=0.5, line={"dash": "dot", "width": 1, "color": "#8C8C8C"})
    log_snr = _overlay("log SNR: signal against noise", schedules, lambda s: s.snr.log())
    return ScheduleFigures(beta, alpha, alpha_bar, log_snr)


def _overlay(title: str, schedules: tuple[BetaSchedule, ...], curve) -> go.Figure:
    figure = go.Figure()
    for schedule in schedules:
        timesteps = plotted_timesteps(schedule.num_timesteps)
        figure.add_scatter(
            x=timesteps,
            y=curve(schedule)[timesteps].tolist(),
            name=schedule.name,
            line={
                "color": SCHEDULE_COLORS.get(schedule.name),
                "dash": SCHEDULE_DASHES.get(schedule.name),
                "width": 2.5,
            },
            hovertemplate="%{y:.4g}",
        )
    return label_lines(styled(figure, title, x_title="timestep t"))
