"""Tab: how does noise become an image?"""

from dataclasses import dataclass

import gradio as gr

from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER, DENOISERS
from ldm_explorer.explore.denoising import MAX_IMAGES, DenoisingFrame, denoise_images
from ldm_explorer.explore.library import Library
from ldm_explorer.samplers import DEFAULT_NUM_STEPS, DEFAULT_SAMPLER, SAMPLERS
from ldm_explorer.ui.common import SharedChoices, bind, class_choices, known_class, on_gpu, opening
from ldm_explorer.ui.few_evaluations import build_few_evaluations
from ldm_explorer.ui.frames import frame, show_by_slider
from ldm_explorer.ui.html import Markup, join
from ldm_explorer.ui.pictures import Picture, grid, picture_row
from ldm_explorer.ui.server.work import LONG

TITLE = "How does noise become an image?"
WHAT_TO_LOOK_AT = (
    "The sampler starts from pure noise and the network says at every step what clean latent it believes in: watch the "
    "prediction (right) turn from a blur into a garment long before the noisy latent (left) does."
)
WHAT_IS_EXACT = (
    "Two need no training: the Gaussian one knows mean and covariance of the training latents, the memorising one "
    "up to 1,000 of them. What looks wrong with these is the sampler's fault."
)
EVERY_CLASS = "one of each class"
STEPS = "denoising-steps"


def _pictures(step: DenoisingFrame, settings: str) -> Markup:
    caption = f"step {step.index + 1} of {step.total}, t = {step.timestep}, abar = {step.alpha_bar:.2g}"
    pictures = [
        Picture(grid(step.noisy), "What the network sees", f"z_t decoded, {caption}"),
        Picture(grid(step.predicted), "What it predicts", f"z0 decoded, {caption}"),
    ]
    return picture_row(pictures, settings, layout="large")


def denoise(
    library: Library,
    checkpoint: str,
    seed: float,
    class_name: str,
    sampler: str,
    num_steps: float,
    guidance_scale: float,
    num_images: float,
    denoiser: str = DEFAULT_DENOISER,
):
    """Generate images step by step; streams the pictures of all steps so far as HTML, and the slider over them."""
    who = "" if denoiser == DEFAULT_DENOISER else f"{denoiser} denoiser, "
    settings = f"{checkpoint}, {who}{class_name}, seed {int(seed)}, {sampler}, guidance {guidance_scale:g}"
    steps = denoise_images(
        library.get(checkpoint),
        None if class_name == EVERY_CLASS else known_class(library, checkpoint, class_name),
        int(seed),
        int(num_images),
        sampler=sampler,
        num_steps=int(num_steps),
        guidance_scale=guidance_scale,
        denoiser=denoiser,
        max_gflops=library.max_gflops,
    )
    shown = join(())
    for kept, step in enumerate(steps, 1):
        shown += frame(_pictures(step, settings))
        yield shown, gr.update(maximum=max(2, kept), value=kept, interactive=kept > 1)


def offer_classes(library: Library, checkpoint: str, class_name: str):
    """The classes to generate, where another checkpoint has other ones."""
    choices = [EVERY_CLASS, *class_choices(library, checkpoint)]
    return gr.update(choices=choices, value=class_name if class_name in choices else choices[-1])


@dataclass(frozen=True)
class _Controls:
    """The components of the left column."""

    class_name: gr.Dropdown
    num_steps: gr.Slider
    guidance_scale: gr.Slider
    sampler: gr.Dropdown
    num_images: gr.Slider
    denoiser: gr.Dropdown
    run: gr.Button
    stop: gr.Button


def _controls(class_names: list[str]) -> _Controls:
    class_name = gr.Dropdown([EVERY_CLASS, *class_names], value=class_names[-1], label="Class to generate")
    num_steps = gr.Slider(
        1, 250, DEFAULT_NUM_STEPS, step=1, label="Steps", info="more: slower, nearer to what was learned"
    )
    guidance_scale = gr.Slider(
        1, 8, 1, step=0.5, label="Guidance scale", info="above 1: more typical of the class, less varied"
    )
    with gr.Accordion("More", open=False):
        sampler = gr.Dropdown(
            list(SAMPLERS),
            value=DEFAULT_SAMPLER,
            label="Sampler",
            info="ddpm adds fresh noise at every step, the others follow one smooth path",
        )
        num_images = gr.Slider(1, MAX_IMAGES, 1, step=1, label="Images", info="seeds seed, seed + 1, ...")
        denoiser = gr.Dropdown(list(DENOISERS), value=DEFAULT_DENOISER, label="Denoiser", info=WHAT_IS_EXACT)
    with gr.Row():
        return _Controls(
            class_name,
            num_steps,
            guidance_scale,
            sampler,
            num_images,
            denoiser,
            run=gr.Button("Generate", variant="primary"),
            stop=gr.Button("Stop"),
        )


def _changes(settings: list[gr.components.Component]) -> list:
    """Sliders count as changed when they are let go."""
    return [setting.release if isinstance(setting, gr.Slider) else setting.change for setting in settings]


def build(library: Library, shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks."""
    if not library.names("ldm"):
        gr.Markdown("There is no denoiser among these checkpoints: train one with `accelerate launch train/ldm.py`.")
        return
    gr.Markdown(WHAT_TO_LOOK_AT)
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            controls = _controls(class_choices(library, shared.checkpoint.value))
        shared.checkpoint.change(
            bind(offer_classes, library),
            [shared.checkpoint, controls.class_name],
            controls.class_name,
            api_visibility="private",
        )
        with gr.Column(scale=3):
            _build_pictures(library, shared, controls)
    build_few_evaluations(library, shared)


def _build_pictures(library: Library, shared: SharedChoices, controls: _Controls) -> None:
    settings = [shared.checkpoint, shared.seed, controls.class_name, controls.sampler]
    settings += [controls.num_steps, controls.guidance_scale, controls.num_images, controls.denoiser]
    handler = bind(denoise, library, LONG)
    *_, (first_pictures, slider) = opening(handler, settings)
    pictures = gr.HTML(first_pictures, elem_id=STEPS)
    position = gr.Slider(
        1, slider["maximum"], slider["value"], step=1, label="Moment to look at", info="of the run above"
    )
    generating = gr.on(
        [controls.run.click, *_changes(settings)],
        on_gpu(handler),
        settings,
        [pictures, position],
        api_name="denoise",
        api_description=denoise.__doc__,
        trigger_mode="always_last",
        show_progress="minimal",
        show_progress_on=pictures,
    )
    controls.stop.click(None, None, None, cancels=[generating], api_visibility="private")
    show_by_slider(position, STEPS)
