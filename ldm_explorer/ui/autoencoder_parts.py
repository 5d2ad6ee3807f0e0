"""Folded away in the room of reconstruction: what is decoded from pure noise, and how latents are scaled."""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.explore.autoencoder import STABLE_DIFFUSION_FACTOR, decode_noise, latent_scales
from ldm_explorer.explore.library import Library
from ldm_explorer.ui import settings
from ldm_explorer.ui.folded import Folded
from ldm_explorer.ui.html import html, table
from ldm_explorer.ui.pictures import Picture, picture_row
from ldm_explorer.ui.settings import Settings

NUM_NOISES = 6
PURE_NOISE = (
    "Latents drawn from the standard normal, which is what sampling starts from. The decoder paints textures and no "
    "garment: the noise has the right scale in every value, and nothing that holds neighbouring values together."
)
STABLE_DIFFUSION = (
    f"Noise has standard deviation 1, so latents are brought to 1 as well before noise is added. Stable Diffusion "
    f"multiplies its latents by {STABLE_DIFFUSION_FACTOR} = 1 / {1 / STABLE_DIFFUSION_FACTOR:.2f}, their standard "
    "deviation over all channels: `scaling_factor` in its config. Here every channel has its own mean and standard "
    "deviation, measured on the training images: `latents_mean` and `latents_std`, z = (raw − mean) / std."
)


class AutoencoderSettings(Settings):
    """Which autoencoder."""

    checkpoint: settings.Checkpoint


def answer_noise(library: Library, chosen: AutoencoderSettings, _beside: AutoencoderSettings | None) -> Iterator[tuple]:
    """Pure noise, decoded."""
    images = decode_noise(library.get(chosen.checkpoint), range(NUM_NOISES))
    yield (picture_row([Picture(image, f"seed {seed}") for seed, image in enumerate(images)]),)


def answer_scale(library: Library, chosen: AutoencoderSettings, _beside: AutoencoderSettings | None) -> Iterator[tuple]:
    """The scale of each channel, as a table."""
    scales = latent_scales(library.get(chosen.checkpoint))
    rows = [
        (f"{channel}", f"{scale.mean:.2f}", f"{scale.std:.2f}", f"{scale.factor:.3f}")
        for channel, scale in enumerate(scales, 1)
    ]
    yield (html("{}", table(["channel", "mean", "std", "1 / std"], rows)),)


NOISE = Folded("pure-noise", "What is decoded from pure noise?", AutoencoderSettings, answer_noise)
SCALE = Folded("latent-scale", "Where does 0.18215 come from?", AutoencoderSettings, answer_scale)


def build_pure_noise(library: Library) -> None:
    """Lay it out, closed."""
    with NOISE.unfolding(library) as outputs:
        gr.Markdown(PURE_NOISE)
        outputs.append(gr.HTML(padding=False))


def build_latent_scale(library: Library) -> None:
    """Lay it out, closed."""
    with SCALE.unfolding(library) as outputs:
        gr.Markdown(STABLE_DIFFUSION)
        outputs.append(gr.HTML(padding=False))
