"""Room: how fast does noise take over?"""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.data import to_uint8
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.schedule import compare_schedules, noise_image
from ldm_explorer.figures.schedules import schedule_figures
from ldm_explorer.schedules import DEFAULT_BETA_END, DEFAULT_BETA_START, DEFAULT_NUM_TIMESTEPS
from ldm_explorer.ui import settings
from ldm_explorer.ui.images import chosen_image
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.settings import Settings
from ldm_explorer.ui.stage import Frame, Shot, Show, Side, stage

NAME = "alphas-betas"
TITLE = "Alphas & betas"
QUESTION = "How fast does noise take over?"
WORK = LIGHT
NUM_FRAMES = 21


class ScheduleSettings(Settings):
    """An image noised along the schedules."""

    checkpoint: settings.Checkpoint
    class_name: settings.ClassName
    number: settings.Number = 1
    upload: settings.Upload = None
    seed: settings.Seed = 0


SETTINGS = ScheduleSettings


def build(_library: Library) -> list[gr.components.Component]:
    shown = [stage()]
    with gr.Row(elem_classes="ldm-follow"):
        shown += [gr.Plot(show_label=False, min_width=320) for _ in range(2)]
    return shown


def answer(library: Library, chosen: ScheduleSettings, _beside: ScheduleSettings | None) -> Iterator[tuple]:
    """One image noised along every schedule with the same noise."""
    image = chosen_image(library, chosen)
    schedules = compare_schedules(DEFAULT_NUM_TIMESTEPS, DEFAULT_BETA_START, DEFAULT_BETA_END)
    noised = noise_image(library.get(chosen.checkpoint), image.pixels, schedules, chosen.seed, NUM_FRAMES)
    figures = schedule_figures(schedules)
    sides = [Side(result.schedule.name) for result in noised]
    show = Show(repr(chosen), "Timestep", NUM_FRAMES, sides, open_at=NUM_FRAMES // 3)
    for place in range(NUM_FRAMES):
        t = noised[0].timesteps[place]
        pictures = [
            [
                Shot(to_uint8(result.pixels[place]), "in pixels", f"abar {float(result.schedule.alpha_bars[t]):.2g}"),
                Shot(to_uint8(result.decoded[place]), "in latents, decoded"),
            ]
            for result in noised
        ]
        show.add(Frame(f"t = {t}", t, pictures))
    yield show.end(), figures.alpha_bar, figures.log_snr
