"""Part: where does 0.18215 come from?"""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.explore.autoencoder import STABLE_DIFFUSION_FACTOR, latent_scales
from ldm_explorer.explore.library import Library
from ldm_explorer.ui.html import table
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.settings import OfCheckpoint

NAME = "latent-scale"
TITLE = f"Where does {STABLE_DIFFUSION_FACTOR} come from?"
FOLDED = True
WORK = LIGHT
WHAT_TO_LOOK_AT = (
    f"Noise has standard deviation 1, so latents are brought to 1 as well before noise is added. Stable Diffusion "
    f"multiplies its latents by {STABLE_DIFFUSION_FACTOR} = 1 / {1 / STABLE_DIFFUSION_FACTOR:.2f}, one over their "
    "standard deviation over all channels: `scaling_factor` in its config. Here every channel has its own mean and "
    "standard deviation, measured on the training images: `latents_mean` and `latents_std`, z = (raw − mean) / std."
)


SETTINGS = OfCheckpoint


def build(_library: Library) -> list[gr.components.Component]:
    gr.Markdown(WHAT_TO_LOOK_AT)
    return [gr.HTML(padding=False)]


def answer(library: Library, chosen: OfCheckpoint, _beside: OfCheckpoint | None) -> Iterator[tuple]:
    """The scale of each channel, as a table."""
    scales = latent_scales(library.get(chosen.checkpoint))
    rows = [
        (f"{channel}", f"{scale.mean:.2f}", f"{scale.std:.2f}", f"{scale.factor:.3f}")
        for channel, scale in enumerate(scales, 1)
    ]
    yield (table(["channel", "mean", "std", "1 / std"], rows),)
