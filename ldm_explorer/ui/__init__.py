"""The app: one file per tab, listed here."""

from pathlib import Path

import gradio as gr

from ldm_explorer.explore.library import Library
from ldm_explorer.ui import denoising, diagnosis, lab, latent_size, reconstruction, report, schedule, training, velocity
from ldm_explorer.ui.common import (
    MAX_SEED,
    SharedChoices,
    bind,
    example_classes,
    images_per_class,
    offer_images,
)
from ldm_explorer.ui.files import leave_undecoded
from ldm_explorer.ui.pictures import notice

TABS = (reconstruction, schedule, velocity, denoising, training, latent_size, lab, diagnosis, report)
"""Each has TITLE and build(library, shared)."""

CSS = (Path(__file__).parent / "style.css").read_text()
THEME = gr.themes.Default(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"], text_size="md"
)
INTRODUCTION = (
    "# LDM Explorer\nA latent diffusion model, taken apart: an image becomes a **latent**, noise is added along a "
    "**schedule**, a **denoiser** learns to take it away, a **sampler** walks back."
)
NO_CHECKPOINTS = (
    "No checkpoint was found. Give a folder that holds some with `--checkpoints`: the repository has one of that name, "
    "and `accelerate launch train/vae.py` and `accelerate launch train/ldm.py` train your own."
)


def build_app(library: Library) -> gr.Blocks:
    """The whole app over a library of checkpoints; it also starts when there are none, and says so."""
    with gr.Blocks(title="LDM Explorer", analytics_enabled=False, delete_cache=(3600, 3600)) as app:
        gr.Markdown(INTRODUCTION)
        if skipped := [skip.reason + "." for skip in library.skipped]:
            gr.HTML(notice(["Not shown:", *skipped]))
        if not library.checkpoints:
            gr.Markdown(NO_CHECKPOINTS)
            return app
        shared = _shared_choices(library)
        with gr.Tabs():
            for number, tab in enumerate(TABS, 1):
                with gr.Tab(f"{number} · {tab.TITLE}"):
                    tab.build(library, shared)
    return app


def _shared_choices(library: Library) -> SharedChoices:
    names = library.names("ldm") or library.names()
    default = "ldm-8x8x4-cosine" if "ldm-8x8x4-cosine" in names else names[0]
    class_names = example_classes(library, default)
    with gr.Row():
        checkpoint = gr.Dropdown(names, value=default, label="Checkpoint", min_width=220)
        class_name = gr.Dropdown(class_names, value=class_names[-1], label="Test image: class", min_width=180)
        number = gr.Slider(1, images_per_class(library, default), 1, step=1, label="Test image: number", min_width=180)
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, min_width=140)
    with gr.Accordion("Use your own image", open=False):
        upload = gr.Image(type="filepath", label="Your image", height=200)
        leave_undecoded(upload)
    checkpoint.change(
        bind(offer_images, library),
        [checkpoint, class_name, number],
        [class_name, number],
        api_visibility="private",
        show_progress="hidden",
    )
    return SharedChoices(checkpoint, class_name, number, upload, seed)
