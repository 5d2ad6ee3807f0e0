"""Part: what is decoded from pure noise?"""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.explore.autoencoder import decode_noise
from ldm_explorer.explore.library import Library
from ldm_explorer.ui.pictures import Picture, picture_row
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.settings import OfCheckpoint

NAME = "pure-noise"
TITLE = "What is decoded from pure noise?"
FOLDED = True
WORK = LIGHT
NUM_NOISES = 5
WHAT_TO_LOOK_AT = (
    "Latents drawn from the standard normal, which is what sampling starts from. The decoder paints textures and no "
    "garment: every value has the right scale, and nothing holds neighbouring values together."
)


SETTINGS = OfCheckpoint


def build(_library: Library) -> list[gr.components.Component]:
    gr.Markdown(WHAT_TO_LOOK_AT)
    return [gr.HTML(padding=False)]


def answer(library: Library, chosen: OfCheckpoint, _beside: OfCheckpoint | None) -> Iterator[tuple]:
    """The images of a few seeds."""
    images = decode_noise(library.get(chosen.checkpoint), range(NUM_NOISES))
    yield (picture_row([Picture(image, f"seed {seed}") for seed, image in enumerate(images)], layout="film"),)
