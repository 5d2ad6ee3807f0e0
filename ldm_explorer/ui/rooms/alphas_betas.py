"""Room: how fast does noise take over?"""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.data import to_uint8
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.schedule import compare_schedules, noise_image
from ldm_explorer.figures.schedules import signal_figures
from ldm_explorer.schedules import FlowSchedule, Schedule
from ldm_explorer.ui import betas, settings
from ldm_explorer.ui.betas import BetasSettings
from ldm_explorer.ui.images import chosen_image
from ldm_explorer.ui.parts import fold
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.stage import Frame, Shot, Show, Side, stage

NAME = "alphas-betas"
TITLE = "Alphas & betas"
QUESTION = "How fast does noise take over?"
WORK = LIGHT
PARTS = (betas,)
NUM_FRAMES = 21


class ScheduleSettings(BetasSettings):
    """An image noised along the schedules."""

    checkpoint: settings.Checkpoint
    class_name: settings.ClassName
    number: settings.Number = 1
    upload: settings.Upload = None
    seed: settings.Seed = 0


SETTINGS = ScheduleSettings


def build(library: Library) -> list[gr.components.Component]:
    shown = [stage()]
    with gr.Row(elem_classes="ldm-follow"):
        shown += [gr.Plot(show_label=False, min_width=320) for _ in range(2)]
    fold(betas, library)
    return shown


def answer(library: Library, chosen: ScheduleSettings, _beside: ScheduleSettings | None) -> Iterator[tuple]:
    """One image noised along every schedule of betas and along a flow's straight line, with the same noise."""
    image = chosen_image(library, chosen)
    of_betas = compare_schedules(chosen.num_timesteps, chosen.beta_start, chosen.beta_end)
    schedules: list[Schedule] = [*of_betas, FlowSchedule(chosen.num_timesteps)]
    noised = noise_image(library.get(chosen.checkpoint), image.pixels, schedules, chosen.seed, NUM_FRAMES)
    figures = signal_figures(schedules)
    sides = [Side(schedule.name, _facts(schedule)) for schedule in schedules]
    show = Show(repr(chosen), "Timestep", NUM_FRAMES, sides, open_at=NUM_FRAMES // 3)
    for place in range(NUM_FRAMES):
        t = noised[0].timesteps[place]
        pictures = [
            [
                Shot(to_uint8(result.pixels[place]), "in pixels", _amount(result.schedule, t)),
                Shot(to_uint8(result.decoded[place]), "in latents, decoded"),
            ]
            for result in noised
        ]
        show.add(Frame(f"t = {t}", t, pictures))
    yield show.end(), figures.signal_share, figures.log_snr


def _amount(schedule: Schedule, t: int) -> str:
    if isinstance(schedule, FlowSchedule):
        return f"s {float(schedule.amplitudes.b[t]):.2g}"
    return f"abar {float(schedule.signal_share[t]):.2g}"


def _facts(schedule: Schedule) -> list[tuple[str, str]]:
    """When noise has taken over, and what is left of the image at the end."""
    half, last = schedule.half_step, float(schedule.snr[-1])
    return [
        ("half noise", "never" if half is None else f"t = {half}, {half / schedule.num_timesteps:.0%} of the way"),
        ("terminal SNR", f"{last:.2g}"),
    ]
