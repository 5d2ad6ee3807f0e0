"""Room: what does the autoencoder keep?"""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.data import to_uint8
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.reconstruction import Reconstruction, reconstruct_image
from ldm_explorer.ui import settings
from ldm_explorer.ui.images import chosen_image
from ldm_explorer.ui.pictures import error_map, grid, latent_channel
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.settings import Settings
from ldm_explorer.ui.stage import Frame, Shot, Show, Side, stage

NAME = "reconstruction"
TITLE = "Reconstruction"
QUESTION = "What does the autoencoder keep?"
WORK = LIGHT
MAX_CHANNELS_SHOWN = 16


class ReconstructionSettings(Settings):
    """An image through an autoencoder."""

    checkpoint: settings.Checkpoint
    class_name: settings.ClassName
    number: settings.Number = 1
    upload: settings.Upload = None


SETTINGS = ReconstructionSettings


def build(_library: Library) -> list[gr.components.Component]:
    return [stage()]


def answer(library: Library, chosen: ReconstructionSettings, beside: ReconstructionSettings | None) -> Iterator[tuple]:
    """The image, its reconstruction and what was lost, beside the latent that it was squeezed into."""
    image = chosen_image(library, chosen)
    results = [reconstruct_image(library.get(side.checkpoint), image.pixels) for side in (chosen, beside) if side]
    sides = [Side(f"{result.name}: {result.size}", _facts(result)) for result in results]
    show = Show(repr((chosen, beside)), "Picture", 1, sides)
    show.add(Frame(image.caption, 0, [_pictures(result, image.caption) for result in results]))
    yield (show.end(" ".join(image.notes)),)


def _facts(result: Reconstruction) -> list[tuple[str, str]]:
    return [("PSNR", f"{result.psnr_db:.1f} dB"), ("SSIM, 1 is perfect", f"{result.ssim:.3f}")]


def _pictures(result: Reconstruction, caption: str) -> list[Shot]:
    channels = [latent_channel(channel) for channel in result.latents[:MAX_CHANNELS_SHOWN]]
    return [
        Shot(to_uint8(result.image), "Image", caption, slot="image"),
        Shot(to_uint8(result.reconstruction), "Reconstruction", "decoded again", slot="result"),
        Shot(error_map(result.error), "Error", "orange: too bright, blue: too dark; full at a tenth", size="small"),
        Shot(grid(_stack(channels)), "Latent, by channel", "black −3, white +3", size="small", slot="latent"),
    ]


def _stack(channels):
    import torch

    return torch.stack(channels)
