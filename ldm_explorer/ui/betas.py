"""Part: the formula, every schedule in words, and the betas and alphas that they are made of."""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.explore.library import Library
from ldm_explorer.explore.schedule import compare_schedules, describe
from ldm_explorer.figures.schedules import beta_figures
from ldm_explorer.schedules import DEFAULT_BETA_END, DEFAULT_BETA_START, DEFAULT_NUM_TIMESTEPS
from ldm_explorer.ui import settings
from ldm_explorer.ui.html import html, join
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.settings import Settings

NAME = "betas"
TITLE = "Why: the formula, and every schedule in words"
FOLDED = True
WORK = LIGHT
WHAT_TO_LOOK_AT = (
    "Noising mixes an image with noise, $z_t = \\sqrt{\\bar\\alpha_t}\\, z_0 + \\sqrt{1-\\bar\\alpha_t}\\, \\epsilon$ "
    "with $\\bar\\alpha_t = \\prod_{s \\le t} (1 - \\beta_s)$: see where $\\bar\\alpha$ (abar) crosses one half. "
    "“Linear” is linear in $\\beta$, not in the noise that has piled up. SNR is the signal-to-noise ratio "
    "$\\bar\\alpha / (1 - \\bar\\alpha)$."
)
MATH = [{"left": "$", "right": "$", "display": False}]


class BetasSettings(Settings):
    """The length and the range that the schedules are made with."""

    num_timesteps: settings.NumTimesteps = DEFAULT_NUM_TIMESTEPS
    beta_start: settings.BetaStart = DEFAULT_BETA_START
    beta_end: settings.BetaEnd = DEFAULT_BETA_END


SETTINGS = BetasSettings


def build(_library: Library) -> list[gr.components.Component]:
    gr.Markdown(WHAT_TO_LOOK_AT, latex_delimiters=MATH)
    shown = [gr.HTML(padding=False)]
    with gr.Row(elem_classes="ldm-follow"):
        return shown + [gr.Plot(show_label=False, min_width=320) for _ in range(2)]


def answer(_library: Library, chosen: BetasSettings, _beside: BetasSettings | None) -> Iterator[tuple]:
    """Where each crosses one half and what is left at its end, in words; beta and alpha over t."""
    schedules = compare_schedules(chosen.num_timesteps, chosen.beta_start, chosen.beta_end)
    words = join(html("<li><b>{}</b>: {}.</li>", schedule.name, describe(schedule)) for schedule in schedules)
    figures = beta_figures(schedules)
    yield html("<ul>{}</ul>", words), figures.beta, figures.alpha
