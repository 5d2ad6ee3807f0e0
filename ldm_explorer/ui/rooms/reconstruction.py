"""Room: what does the autoencoder keep?"""

from collections.abc import Iterator

import gradio as gr
import torch

from ldm_explorer.data import to_uint8
from ldm_explorer.explore.export import reconstruction_script, short_path
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.reconstruction import Reconstruction, reconstruct_image
from ldm_explorer.ui import latent_scale, pure_noise, settings
from ldm_explorer.ui.images import chosen_image
from ldm_explorer.ui.parts import fold
from ldm_explorer.ui.pictures import difference_map, error_map, grid, latent_channel
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.settings import Settings
from ldm_explorer.ui.sides import comparable, decibels, lettered
from ldm_explorer.ui.stage import Frame, Shot, Show, Side, stage

NAME = "reconstruction"
TITLE = "Reconstruction"
QUESTION = "What does the autoencoder keep?"
WORK = LIGHT
PARTS = (pure_noise, latent_scale)
MAX_CHANNELS_SHOWN = 16
WHAT_THE_FIGURES_SAY = (
    "The autoencoder squeezes an image into a small **latent** grid and paints it back: compare the error, and what "
    "each channel of the latent still shows of the shape. PSNR (peak signal-to-noise ratio) grows by 6 dB when the "
    "error halves; SSIM compares local structure, 1 is perfect."
)


class ReconstructionSettings(Settings):
    """An image through an autoencoder."""

    checkpoint: settings.Checkpoint
    class_name: settings.ClassName
    number: settings.Number = 1
    upload: settings.Upload = None


SETTINGS = ReconstructionSettings


def build(library: Library) -> list[gr.components.Component]:
    shown = [stage()]
    with gr.Accordion("What do the figures say?", open=False):
        gr.Markdown(WHAT_THE_FIGURES_SAY)
    for part in PARTS:
        fold(part, library)
    return shown


def answer(library: Library, chosen: ReconstructionSettings, beside: ReconstructionSettings | None) -> Iterator[tuple]:
    """The image, its reconstruction and what was lost, beside the latent that it was squeezed into."""
    image = chosen_image(library, chosen)
    runs, notes = comparable(library, chosen, beside)
    results = [reconstruct_image(library.get(run.checkpoint), image.pixels) for run in runs]
    pictures = [_pictures(result, image.caption) for result in results]
    show = Show(repr((chosen, beside)), "Picture", 1, _sides(results))
    show.add(Frame(image.caption, 0, [*pictures, *_difference(results)]))
    yield (show.end(" ".join([*image.notes, *notes])),)


def script(library: Library, chosen: ReconstructionSettings) -> str:
    """The Python that makes the same reconstruction."""
    checkpoint = library.get(chosen.checkpoint)
    folder = short_path(checkpoint.folder, library.roots)
    return reconstruction_script(checkpoint, folder, chosen_image(library, chosen))


def _sides(results: list[Reconstruction]) -> list[Side]:
    titles = lettered([f"{result.name}: {result.size.shape}" for result in results])
    sides = [Side(title, _facts(result)) for title, result in zip(titles, results, strict=True)]
    if not _alike(results):
        return sides
    return [*sides, Side("Difference", [("B to A", decibels(*(_shown(result)[None] for result in results)))])]


def _facts(result: Reconstruction) -> list[tuple[str, str]]:
    return [
        ("latent", str(result.size)),
        ("PSNR", f"{result.psnr_db:.1f} dB"),
        ("SSIM", f"{result.ssim:.3f}, 1 is perfect"),
    ]


def _alike(results: list[Reconstruction]) -> bool:
    return len(results) == 2 and results[0].image.shape == results[1].image.shape


def _shown(result: Reconstruction) -> torch.Tensor:
    return to_uint8(result.reconstruction)


def _difference(results: list[Reconstruction]) -> list[list[Shot]]:
    """How B's reconstruction differs from A's, where there are two of one size."""
    if not _alike(results):
        return []
    return [[Shot(difference_map(*map(_shown, results)), "B − A", "orange: B is brighter; full at a tenth")]]


def _pictures(result: Reconstruction, caption: str) -> list[Shot]:
    channels = [latent_channel(channel) for channel in result.latents[:MAX_CHANNELS_SHOWN]]
    return [
        Shot(to_uint8(result.image), "Image", caption, slot="image"),
        Shot(_shown(result), "Reconstruction", "decoded again", slot="result"),
        Shot(error_map(result.error), "Error", "orange: too bright, blue: too dark; full at a tenth", size="small"),
        Shot(grid(torch.stack(channels)), "Latent, by channel", "black −3, white +3", size="small", slot="latent"),
    ]
