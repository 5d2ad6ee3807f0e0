"""Part: what the size that was chosen makes of images, of noise, and of the way between two images."""

from collections.abc import Iterator

import gradio as gr
import torch

from ldm_explorer.explore.latent_size import SizePictures, compare_sizes
from ldm_explorer.explore.latent_views import interpolate
from ldm_explorer.explore.library import Library
from ldm_explorer.ui import settings
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.images import chosen_image
from ldm_explorer.ui.page_script import once_loaded
from ldm_explorer.ui.pictures import Picture, error_map, grid, picture_row
from ldm_explorer.ui.server.work import LONG
from ldm_explorer.ui.sizes.between import strips
from ldm_explorer.ui.sizes.compared import SecondImage, second_image

NAME = "sizes-chosen"
QUESTION = "What does one latent size reconstruct, generate and interpolate?"
WORK = LONG


class ChosenSize(SecondImage):
    """A checkpoint by its name, and what it is shown on."""

    checkpoint: settings.Checkpoint
    class_name: settings.ClassName
    number: settings.Number = 1
    upload: settings.Upload = None
    seed: settings.Seed = 0
    size: settings.Size = ""


SETTINGS = ChosenSize


def build(_library: Library) -> list[gr.components.Component]:
    return [gr.HTML("", js_on_load=once_loaded("ldm.reveal(element, watch)"), padding=False)]


def answer(library: Library, chosen: ChosenSize, beside: ChosenSize | None) -> Iterator[tuple]:
    """Reconstructions with their errors, samples from the same seeds, and an interpolation, of A's size and of B's."""
    sizes = dict.fromkeys(side.size for side in (chosen, beside) if side and side.size)
    if not sizes:
        yield ("",)
    shown: list[Markup] = []
    for size in sizes:
        waiting = html('<p role="status">{} reconstructs, generates and interpolates …</p>', size)
        yield (_beside([*shown, waiting], len(sizes)),)
        shown.append(_pictures_of(library, chosen, size))
        yield (_beside(shown, len(sizes)),)


def _beside(shown: list[Markup], total: int) -> Markup:
    return html('<div class="ldm-ways{}">{}</div>', " two" if total > 1 else "", join(shown))


def _pictures_of(library: Library, chosen: ChosenSize, size: str) -> Markup:
    """Raises `ValueError` for a size that was trained on other images than `checkpoint`."""
    checkpoint = library.get(size)
    if checkpoint.name not in library.beside(chosen.checkpoint):
        raise ValueError(
            f"{size} was trained on other images than {library.get(chosen.checkpoint).name}: choose another size"
        )
    first = chosen_image(library, chosen)
    second = second_image(library, chosen.checkpoint, chosen.class_name, chosen)
    (result,) = compare_sizes(library, [size], first.pixels, chosen.seed)
    between = strips(interpolate(checkpoint, first.pixels, second.pixels), f"From {first.caption} to {second.caption}")
    template = "<section><h3>{}: {}</h3>{}{}</section>"
    return html(template, size, result.size.in_words, picture_row(_pictures(result), layout="four"), between)


def _pictures(result: SizePictures) -> list[Picture]:
    errors = torch.stack([error_map(error) for error in result.errors])
    pictures = [
        Picture(grid(result.images), "Test images", "the chosen one, then one of each class"),
        Picture(grid(result.reconstructions), "Reconstructions", "of the same images"),
        Picture(grid(errors), "Errors", "orange: too bright, blue: too dark; full at a tenth of the range"),
    ]
    if result.samples is not None:
        caption = f"one of each class, {result.num_steps} evaluations, guidance 1"
        pictures.append(Picture(grid(result.samples), "Generated", caption))
    return pictures
