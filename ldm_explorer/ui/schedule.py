"""Tab: how fast does noise take over?"""

import gradio as gr

from ldm_explorer.data import to_uint8
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.schedule import NoisedImage, compare_schedules, describe, noise_image
from ldm_explorer.figures.schedules import schedule_figures
from ldm_explorer.schedules import DEFAULT_BETA_END, DEFAULT_BETA_START, DEFAULT_NUM_TIMESTEPS
from ldm_explorer.ui.common import SharedChoices, answer_changes, bind, chosen_image, opening
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.pictures import Picture, picture_row, scrolling

TITLE = "How fast does noise take over?"
WHAT_TO_LOOK_AT = (
    "Noising mixes an image with noise, $z_t = \\sqrt{\\bar\\alpha_t}\\, z_0 + \\sqrt{1-\\bar\\alpha_t}\\, \\epsilon$ "
    "with $\\bar\\alpha_t = \\prod_{s \\le t} (1 - \\beta_s)$: see where $\\bar\\alpha$ (abar) crosses one half. "
    "“Linear” is linear in $\\beta$, not in the noise that has piled up. SNR is the signal-to-noise ratio "
    "$\\bar\\alpha / (1 - \\bar\\alpha)$."
)
MATH = [{"left": "$", "right": "$", "display": False}]


def plot_schedules(_library: Library, num_timesteps: float, beta_start: float, beta_end: float):
    """Every schedule in words, and its beta, alpha, abar and log SNR as Plotly figures."""
    schedules = compare_schedules(int(num_timesteps), beta_start, beta_end)
    words = join(html("<li><b>{}</b>: {}.</li>", schedule.name, describe(schedule)) for schedule in schedules)
    figures = schedule_figures(schedules)
    return html("<ul>{}</ul>", words), figures.beta, figures.alpha, figures.alpha_bar, figures.log_snr


def noise_along_schedules(
    library: Library,
    checkpoint: str,
    class_name: str,
    number: float,
    upload: str | None,
    seed: float,
    num_timesteps: float,
    beta_start: float,
    beta_end: float,
) -> Markup:
    """One image noised along every schedule at the same steps, in pixels and in decoded latents, as HTML."""
    image = chosen_image(library, checkpoint, class_name, number, upload)
    schedules = compare_schedules(int(num_timesteps), beta_start, beta_end)
    noised = noise_image(library.get(checkpoint), image.pixels, schedules, int(seed))
    rows = join(_row(result, "pixels") + _row(result, "latents, decoded") for result in noised)
    return scrolling(rows, "one image noised along each schedule")


def _row(result: NoisedImage, where: str) -> Markup:
    images = to_uint8(result.pixels if where == "pixels" else result.decoded)
    abar = result.schedule.alpha_bars
    pictures = [
        Picture(image, f"t = {t}", f"abar {float(abar[t]):.2g}")
        for image, t in zip(images, result.timesteps, strict=True)
    ]
    return picture_row(pictures, f"{result.schedule.name}, noise in {where}", layout="line")


def build(library: Library, shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks."""
    gr.Markdown(WHAT_TO_LOOK_AT, latex_delimiters=MATH)
    with gr.Row():
        num_timesteps = gr.Slider(10, 4000, DEFAULT_NUM_TIMESTEPS, step=10, label="T, number of timesteps")
        beta_start = gr.Number(
            DEFAULT_BETA_START,
            label="beta at t = 0",
            info="cosine has no beta range",
            minimum=1e-6,
            maximum=0.5,
            step=1e-4,
        )
        beta_end = gr.Number(
            DEFAULT_BETA_END, label="beta at t = T - 1", info="same", minimum=1e-6, maximum=0.9, step=1e-3
        )
    settings = [num_timesteps, beta_start, beta_end]
    plot, noise = bind(plot_schedules, library), bind(noise_along_schedules, library)
    words, *figures = opening(plot, settings)
    shown = [gr.HTML(words)]
    for pair in (figures[:2], figures[2:]):
        with gr.Row():
            shown += [gr.Plot(figure, show_label=False, min_width=320) for figure in pair]
    gr.Markdown("### The same image, the same noise, the same steps")
    inputs = [*shared.image, shared.seed, *settings]
    pictures = gr.HTML(opening(noise, inputs))
    answer_changes(plot, settings, shown, "plot_schedules")
    answer_changes(noise, inputs, pictures, "noise_image")
