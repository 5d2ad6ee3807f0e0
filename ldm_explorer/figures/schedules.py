"""Noise schedules, overlaid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import plotly.graph_objects as go
from torch import Tensor

from ldm_explorer.figures.style import SCHEDULE_COLORS, SCHEDULE_DASHES, label_lines, plotted_timesteps, styled
from ldm_explorer.schedules import BetaSchedule, Schedule

S = TypeVar("S", bound=Schedule)


@dataclass(frozen=True)
class BetaFigures:
    """Two quantities over t; every schedule is in each."""

    beta: go.Figure
    alpha: go.Figure


@dataclass(frozen=True)
class SignalFigures:
    """How much signal is left over t; every schedule is in each."""

    signal_share: go.Figure
    log_snr: go.Figure


def beta_figures(schedules: Sequence[BetaSchedule]) -> BetaFigures:
    """beta and alpha as the schedules' own tensors.

    The cosine schedule ends at beta = 0.999; both are shown up to three times the median of the last betas, where the
    schedules can be told apart.
    """
    top = 3 * median(float(schedule.betas[-1]) for schedule in schedules)
    beta = _overlay("beta: noise per step (cosine: up to .999)", schedules, lambda s: s.betas)
    alpha = _overlay("alpha = 1 - beta: what a step keeps", schedules, lambda s: s.alphas)
    beta.update_yaxes(range=[-0.02 * top, top])
    alpha.update_yaxes(range=[1 - top, 1 + 0.02 * top])
    return BetaFigures(beta, alpha)


def signal_figures(schedules: Sequence[Schedule]) -> SignalFigures:
    """The share of signal in the variance, which is abar where variance is preserved, and log SNR; of flows too."""
    share = _overlay("abar: share of signal variance left", schedules, lambda s: s.signal_share)
    share.add_hline(y=0.5, line={"dash": "dot", "width": 1, "color": "#8C8C8C"})
    return SignalFigures(share, _overlay("log SNR: signal against noise", schedules, lambda s: s.snr.log()))


def _overlay(title: str, schedules: Sequence[S], curve: Callable[[S], Tensor]) -> go.Figure:
    figure = go.Figure()
    for schedule in schedules:
        timesteps, values = plotted_timesteps(schedule.num_timesteps), curve(schedule)
        timesteps = [t for t in timesteps if values[t].isfinite()]  # at the end of a flow no signal is left
        figure.add_scatter(
            x=timesteps,
            y=values[timesteps].tolist(),
            name=schedule.name,
            line={
                "color": SCHEDULE_COLORS.get(schedule.name),
                "dash": SCHEDULE_DASHES.get(schedule.name),
                "width": 2.5,
            },
            hovertemplate="%{y:.4g}",
        )
    return label_lines(styled(figure, title, x_title="timestep t"))
