"""Tab: why did the loss stop at 0.34?"""

import gradio as gr

from ldm_explorer.explore.library import Library
from ldm_explorer.explore.report import REPORTED_LOSS, Stage, WhiteFloorCurve, read_stages, white_floor_curves
from ldm_explorer.figures.report import scale_figure, stages_figure
from ldm_explorer.ui.common import SharedChoices
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.pictures import Picture, grid, notice, picture_row

TITLE = "Why did the loss stop at 0.34?"
STORY = (
    "Students trained a latent diffusion model at a university. Their loss stopped at 0.34 and became unstable, the "
    "images never got better, and nothing they had told them why. Here a setting that fails in the same way is built "
    "on Fashion-MNIST, with one small network, and fixed step by step. It stops at .27 and not at .34, and nothing in "
    "it becomes unstable: what is shown is the mechanism."
)
HYPOTHESIS = (
    "### What 0.34 may have been\nA network that knows nothing but the scale of the latents, because it learned no "
    "more or because there is no more in them, predicts a share of $z_t$ as noise. Its loss stands at the **white "
    "floor** of that scale, however long it trains. {fits} This is a hypothesis that fits, no more: the data are not "
    "here, and other causes give the same number, as every curve crosses the line. What tells them apart is the "
    "standard deviation of the latents and the schedule, written next to the loss."
)


def hypothesis(curves: tuple[WhiteFloorCurve, ...]) -> str:
    """The scales whose white floor is the reported loss, in words."""
    fits = [
        f"{std:.2f} with the {curve.schedule} schedule of {curve.num_timesteps:,} steps"
        for curve in curves
        if (std := curve.std_of(REPORTED_LOSS)) is not None
    ]
    sentence = f"{REPORTED_LOSS} is the floor of latents of standard deviation {', '.join(fits[:-1])} or {fits[-1]}."
    return HYPOTHESIS.format(fits=sentence)


def show_stages(stages: tuple[Stage, ...]) -> Markup:
    """The runs in order, as HTML: what was changed, what the loss says, what it generates."""
    return join(_stage(number, stage) for number, stage in enumerate(stages, 1))


def _stage(number: int, stage: Stage) -> Markup:
    floors = stage.reading.mean_floors
    loss = stage.reading.validation_last_tenth
    floors_said = (
        f"Loss ({stage.reading.prediction_type}) {loss:.3f}; floors: zero {floors['zero']:.3f}, white "
        f"{floors['white']:.3f}, Gaussian {floors['gaussian']:.3f}, Gaussian of the class "
        f"{floors['gaussian_per_class']:.3f}."
    )
    words = html(
        "<h2>{}. {}</h2><p>{}</p><p>{} {}</p><p><code>{}</code></p>",
        number,
        stage.title,
        stage.change,
        floors_said,
        stage.reading.sentence(),
        stage.command,
    )
    pictures = picture_row(
        [Picture(grid(stage.images), "Generated", "one of each class, 25 evaluations")], layout="large"
    )
    return html('<section class="ldm-stage"><div>{}</div>{}</section>', words, pictures)


def build(_library: Library, _shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks; it stands on the shipped logs of the lab."""
    gr.Markdown(STORY)
    try:
        stages, curves = read_stages(), white_floor_curves()
    except ValueError as error:  # an installation without the runs of the lab
        gr.HTML(notice([f"{error}."]))
        return
    gr.HTML(show_stages(stages))
    with gr.Row():
        gr.Plot(stages_figure(stages), show_label=False, min_width=320)
        gr.Plot(scale_figure(curves), show_label=False, min_width=320)
    gr.Markdown(hypothesis(curves), latex_delimiters=[{"left": "$", "right": "$", "display": False}])
